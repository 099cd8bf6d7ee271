export { DEFAULT_LIMITS, type Limits } from './limits.js'
export type { DataOrigin, Rendering, Run } from './rendering.js'
export { JinjaTemplate, type RenderOptions } from './template.js'
