import { numberFilters } from './filters-numbers.js'
import { orderFilters } from './filters-order.js'
import { sequenceFilters } from './filters-sequences.js'
import { textFilters } from './filters-texts.js'
import { addFilters } from './names.js'

/** Makes all filters known by their names. */
export function loadFilters(): void {
  addFilters(textFilters)
  addFilters(numberFilters)
  addFilters(sequenceFilters)
  addFilters(orderFilters)
}
