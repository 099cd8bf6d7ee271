import test from 'ava'
import { JinjaTemplate } from '../../../lib/data/text/jinja/index.js'

/** Expected texts: Python's datetime.strftime. */
test('strftime_now writes a local time as Python does', (t) => {
  const at = (format: string, now: Date) =>
    JinjaTemplate.parse(`{{ strftime_now(${JSON.stringify(format)}) }}`, 'time').render({}, { now }).text
  const winter = new Date(2024, 0, 5, 7, 8, 9, 12)
  t.is(at('%Y-%m-%d', winter), '2024-01-05')
  t.is(at('%d %b %Y', winter), '05 Jan 2024')
  t.is(at('%A, %-d %B %y %e|%I:%M:%S %p|%f', winter), 'Friday, 5 January 24  5|07:08:09 AM|012000')
  t.is(
    at('%c|%x|%X|%j|%U|%W|%V|%G|%u|%w|%%', winter),
    'Fri Jan  5 07:08:09 2024|01/05/24|07:08:09|005|00|01|01|2024|5|5|%',
  )
  t.is(at('%G-W%V %j %U', new Date(2021, 0, 3, 23, 0, 0)), '2020-W53 003 01')
  t.is(at('%I %p %-I', new Date(2021, 6, 3, 12, 0, 0)), '12 PM 12')
})
