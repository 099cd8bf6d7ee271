const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const MONTHS = 'January February March April May June July August September October November December'.split(
  ' ',
)
const DAY = 24 * 60 * 60 * 1000

/** Python's datetime.strftime of a local time, in English. */
export function strftime(format: string, time: Date): string {
  return format.replace(/%([-_0^#]?)([A-Za-z%])/g, (whole, flag: string, letter: string) => {
    const part = PARTS[letter]?.(time)
    if (part === undefined) return whole
    if (typeof part === 'string')
      return flag === '^' || (flag === '#' && !'pPZ'.includes(letter)) ? part.toUpperCase() : part
    const [number, width, fill] = part
    if (flag === '-') return String(number)
    return String(number).padStart(width, flag === '_' ? ' ' : flag === '0' ? '0' : fill)
  })
}

type Part = string | [number: number, width: number, fill: string]

function two(number: number): [number, number, string] {
  return [number, 2, '0']
}

function hour12(time: Date): number {
  return time.getHours() % 12 || 12
}

function dayOfYear(time: Date): number {
  const start = Date.UTC(time.getFullYear(), 0, 1)
  return Math.round((Date.UTC(time.getFullYear(), time.getMonth(), time.getDate()) - start) / DAY)
}

/** Year and week of ISO 8601. */
function isoWeek(time: Date): [number, number] {
  const day = new Date(Date.UTC(time.getFullYear(), time.getMonth(), time.getDate()))
  day.setUTCDate(day.getUTCDate() + 4 - (day.getUTCDay() || 7))
  const start = Date.UTC(day.getUTCFullYear(), 0, 1)
  return [day.getUTCFullYear(), Math.floor((day.getTime() - start) / DAY / 7) + 1]
}

const PARTS: Record<string, (time: Date) => Part> = {
  a: (time) => DAYS[time.getDay()]!.slice(0, 3),
  A: (time) => DAYS[time.getDay()]!,
  b: (time) => MONTHS[time.getMonth()]!.slice(0, 3),
  h: (time) => MONTHS[time.getMonth()]!.slice(0, 3),
  B: (time) => MONTHS[time.getMonth()]!,
  c: (time) => strftime('%a %b %e %H:%M:%S %Y', time),
  C: (time) => two(Math.floor(time.getFullYear() / 100)),
  d: (time) => two(time.getDate()),
  D: (time) => strftime('%m/%d/%y', time),
  e: (time) => [time.getDate(), 2, ' '],
  f: (time) => `${String(time.getMilliseconds()).padStart(3, '0')}000`,
  F: (time) => strftime('%Y-%m-%d', time),
  g: (time) => two(isoWeek(time)[0] % 100),
  G: (time) => [isoWeek(time)[0], 4, '0'],
  H: (time) => two(time.getHours()),
  I: (time) => two(hour12(time)),
  j: (time) => [dayOfYear(time) + 1, 3, '0'],
  k: (time) => [time.getHours(), 2, ' '],
  l: (time) => [hour12(time), 2, ' '],
  m: (time) => two(time.getMonth() + 1),
  M: (time) => two(time.getMinutes()),
  n: () => '\n',
  p: (time) => (time.getHours() < 12 ? 'AM' : 'PM'),
  P: (time) => (time.getHours() < 12 ? 'am' : 'pm'),
  r: (time) => strftime('%I:%M:%S %p', time),
  R: (time) => strftime('%H:%M', time),
  s: (time) => String(Math.floor(time.getTime() / 1000)),
  S: (time) => two(time.getSeconds()),
  t: () => '\t',
  T: (time) => strftime('%H:%M:%S', time),
  u: (time) => String(time.getDay() || 7),
  U: (time) => two(Math.floor((dayOfYear(time) + 7 - time.getDay()) / 7)),
  V: (time) => two(isoWeek(time)[1]),
  w: (time) => String(time.getDay()),
  W: (time) => two(Math.floor((dayOfYear(time) + 7 - ((time.getDay() + 6) % 7)) / 7)),
  x: (time) => strftime('%m/%d/%y', time),
  X: (time) => strftime('%H:%M:%S', time),
  y: (time) => two(time.getFullYear() % 100),
  Y: (time) => [time.getFullYear(), 1, '0'],
  z: () => '',
  Z: () => '',
  '%': () => '%',
}
