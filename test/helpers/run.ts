import type { TrainEvent } from '../../lib/train/run/events.js'

/** All events of a run, which is trained by that. */
export async function eventsOf<Event>(run: AsyncIterable<Event>): Promise<Event[]> {
  const events: Event[] = []
  for await (const event of run) events.push(event)
  return events
}

/** The events of one type. */
export function only<Event extends { type: string }, Type extends Event['type']>(
  events: readonly Event[],
  type: Type,
): Extract<Event, { type: Type }>[] {
  return events.filter((event): event is Extract<Event, { type: Type }> => event.type === type)
}

/** The steps among events, without what the clock decides. */
export function stepsOf<Event extends { type: string }>(events: readonly Event[]) {
  return only(events, 'step' as Event['type'] & 'step').map((event) => ({ ...event, tokensPerSecond: 0 }))
}

/** Steps, evaluations and epochs, without what the clock decides. */
export function numbersOf<Event extends { type: string }>(events: readonly Event[]) {
  return events
    .filter(({ type }) => ['step', 'evaluation', 'epoch'].includes(type))
    .map((event) => (event.type === 'step' ? { ...event, tokensPerSecond: 0 } : event))
}

export const lossesOf = (events: readonly { type: string }[]) =>
  stepsOf(events as readonly TrainEvent[]).map(({ loss }) => loss)
