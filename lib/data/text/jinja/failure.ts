export type FailureKind =
  | 'TypeError'
  | 'ValueError'
  | 'OverflowError'
  | 'ZeroDivisionError'
  | 'LookupError'
  | 'UndefinedError'
  | 'SecurityError'
  | 'TemplateError'

/** An error of Python or Jinja2 that a template runs into. */
export class Failure extends Error {
  readonly kind: FailureKind

  constructor(kind: FailureKind, message: string) {
    super(message)
    this.kind = kind
  }
}

export function typeError(message: string): Failure {
  return new Failure('TypeError', message)
}

export function valueError(message: string): Failure {
  return new Failure('ValueError', message)
}

/** A template that is not valid. */
export class SyntaxFailure extends Error {
  readonly line: number

  constructor(message: string, line: number) {
    super(message)
    this.line = line
  }
}
