/** A chart of losses in an SVG element: the loss of each step, its smoothed line, and validation losses as dots. */

interface Point {
  step: number
  loss: number
}

const margin = { left: 48, right: 12, top: 12, bottom: 26 }
/** Maximum vertices of a line: more than a chart has pixels would be invisible. */
const mostVertices = 1000
/** Decay of the exponential moving average that is the smoothed line; a longer run may lag by more steps. */
const decayOf = (totalSteps: number) => Math.min(0.98, totalSteps / (totalSteps + 60))

/** Returns about three to six round values between `from` and `to`. */
export function ticks(from: number, to: number): number[] {
  const raw = (to - from) / 5
  const power = 10 ** Math.floor(Math.log10(raw))
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10)
  const values: number[] = []
  for (let i = Math.ceil(from / step); i * step <= to + step * 1e-9; i++) values.push(i * step)
  return values
}

function element(name: string, attributes: Record<string, string | number>, text?: string): SVGElement {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value))
  if (text !== undefined) made.textContent = text
  return made
}

/** Keeps every n-th point, and the last. */
function thinned(points: Point[]): Point[] {
  const every = Math.ceil(points.length / mostVertices)
  return points.filter((_, i) => i % every === 0 || i === points.length - 1)
}

export class Chart {
  readonly #svg: SVGSVGElement
  #steps: Point[] = []
  #smooth: Point[] = []
  #validation: Point[] = []
  #totalSteps = 1
  #due = false

  constructor(svg: SVGSVGElement) {
    this.#svg = svg
    new ResizeObserver(() => this.#drawSoon()).observe(svg)
  }

  clear(totalSteps: number): void {
    this.#steps = []
    this.#smooth = []
    this.#validation = []
    this.#totalSteps = totalSteps
    this.#drawSoon()
  }

  step(step: number, loss: number): void {
    if (!Number.isFinite(loss)) return
    const decay = decayOf(this.#totalSteps)
    const before = this.#smooth.at(-1)?.loss ?? loss
    this.#steps.push({ step, loss })
    this.#smooth.push({ step, loss: decay * before + (1 - decay) * loss })
    this.#drawSoon()
  }

  validation(step: number, loss: number): void {
    if (Number.isFinite(loss)) this.#validation.push({ step, loss })
    this.#drawSoon()
  }

  /** Draws at most once per frame, even at hundreds of steps a second. */
  #drawSoon(): void {
    if (this.#due) return
    this.#due = true
    requestAnimationFrame(() => {
      this.#due = false
      this.#draw()
    })
  }

  #draw(): void {
    const { width, height } = this.#svg.getBoundingClientRect()
    const points = [...this.#steps, ...this.#validation]
    this.#svg.replaceChildren()
    this.#svg.setAttribute('viewBox', `0 0 ${width} ${height}`)
    if (points.length === 0 || width === 0) return

    let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
    for (const { loss } of points) {
      low = Math.min(low, loss)
      high = Math.max(high, loss)
    }
    const room = (high - low || Math.abs(high) || 1) * 0.06
    const [bottom, top] = [low >= 0 ? Math.max(0, low - room) : low - room, high + room]
    const x = (step: number) => margin.left + (step / this.#totalSteps) * (width - margin.left - margin.right)
    const y = (loss: number) =>
      margin.top + ((top - loss) / (top - bottom)) * (height - margin.top - margin.bottom)
    const line = (of: Point[], name: string) =>
      element('polyline', {
        class: name,
        points: thinned(of)
          .map(({ step, loss }) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`)
          .join(' '),
      })

    const marks = ticks(bottom, top)
    const digits = Math.max(0, -Math.floor(Math.log10((marks[1] ?? top) - (marks[0] ?? bottom))))
    for (const loss of marks) {
      this.#svg.append(
        element('line', {
          class: 'grid',
          x1: margin.left,
          x2: width - margin.right,
          y1: y(loss),
          y2: y(loss),
        }),
        element('text', { x: margin.left - 8, y: y(loss) + 4, 'text-anchor': 'end' }, loss.toFixed(digits)),
      )
    }
    for (const step of ticks(0, this.#totalSteps)) {
      if (!Number.isInteger(step)) continue
      this.#svg.append(element('text', { x: x(step), y: height - 8, 'text-anchor': 'middle' }, String(step)))
    }
    this.#svg.append(line(this.#steps, 'raw'), line(this.#smooth, 'smooth'))
    for (const { step, loss } of this.#validation)
      this.#svg.append(element('circle', { class: 'validation', cx: x(step), cy: y(loss), r: 4 }))

    const right = width - margin.right
    this.#svg.append(
      element('circle', { class: 'key-loss', cx: right - 132, cy: margin.top + 4, r: 4 }),
      element('text', { x: right - 124, y: margin.top + 8 }, 'training'),
      element('circle', { class: 'validation', cx: right - 64, cy: margin.top + 4, r: 4 }),
      element('text', { x: right - 56, y: margin.top + 8 }, 'validation'),
    )
  }
}
