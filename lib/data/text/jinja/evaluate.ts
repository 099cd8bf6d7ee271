import { attributeOf, dictMethod, getAttribute, getItem, getSlice, isUnsafe, stringMethod } from './access.js'
import { call } from './call.js'
import { parseInteger } from './digits.js'
import { Failure, typeError } from './failure.js'
import { itemsOf } from './iteration.js'
import { isTrue } from './kinds.js'
import { charge } from './limits.js'
import { filterNamed, testNamed } from './names.js'
import type * as Nodes from './nodes.js'
import type { Expression } from './nodes.js'
import { binary, contains, equal, ordered, unary } from './operators.js'
import { type Frame, undefinedName } from './runtime.js'
import { type Evaluate, fail, type Place, reader } from './scopes.js'
import { str } from './spelling.js'
import { concat, isStr, raw } from './text.js'
import { Dict, float, type Keywords, List, Tuple, Undefined, type Value } from './values.js'

/** Compiles an expression. */
export function expression(node: Expression, place: Place): Evaluate {
  switch (node.type) {
    case 'const': {
      const { value } = node
      return () => value
    }
    case 'number': {
      const value = node.float ? float(Number(node.digits)) : parseInteger(node.digits, 0)!
      return () => value
    }
    case 'name':
      return variable(node, place)
    case 'attribute':
      return attribute(node, place)
    case 'item':
      return item(node, place)
    case 'slice':
      return fail('a slice stands only in brackets', node)
    case 'nsref':
      return fail('a namespace reference is a target only', node)
    case 'tuple': {
      const items = all(node.items, place)
      return (frame) => new Tuple(evaluated(items, frame))
    }
    case 'list': {
      const items = all(node.items, place)
      return (frame) => new List(evaluated(items, frame))
    }
    case 'dict': {
      const keys = all(node.keys, place)
      const values = all(node.values, place)
      return (frame) => {
        charge(1 + keys.length)
        return new Dict(keys.map((key, i) => ({ key: key(frame), value: values[i]!(frame) })))
      }
    }
    case 'concat': {
      const items = all(node.items, place)
      return (frame) => concat(items.map((part) => str(part(frame))))
    }
    case 'conditional':
      return conditional(node, place)
    case 'unary':
      return unaryOperation(node, place)
    case 'binary':
      return binaryOperation(node, place)
    case 'compare':
      return comparison(node, place)
    case 'call':
      return calling(node, place)
    case 'filter':
      return filter(node, place, null)
    case 'test':
      return test(node, place)
  }
}

function all(nodes: readonly Expression[], place: Place): Evaluate[] {
  return nodes.map((node) => expression(node, place))
}

function evaluated(items: readonly Evaluate[], frame: Frame): Value[] {
  charge(1 + items.length)
  const values = new Array<Value>(items.length)
  for (let i = 0; i < items.length; i++) values[i] = items[i]!(frame)
  return values
}

function variable({ name }: Nodes.Name, place: Place): Evaluate {
  const read = reader(place.symbols.scope, place.symbols.find(name)!)
  return (frame) => {
    const value = read(frame)
    return value === undefined ? undefinedName(name) : value
  }
}

function attribute(node: Nodes.Attribute, place: Place): Evaluate {
  const of = expression(node.of, place)
  const { name } = node
  // Names that no dict has as a method are keys.
  const probe = new Dict([])
  const key = attributeOf(probe, name) === undefined && !isUnsafe(probe, name)
  return (frame) => {
    const value = of(frame)
    if (key && value instanceof Dict) {
      const found = value.get(name)
      if (found !== undefined) return found
    }
    return getAttribute(value, name)
  }
}

function item(node: Nodes.Item, place: Place): Evaluate {
  const of = expression(node.of, place)
  if (node.index.type === 'slice') {
    const bounds = node.index.bounds.map((bound) => (bound === null ? null : expression(bound, place)))
    return (frame) =>
      getSlice(
        of(frame),
        bounds.map((bound) => bound?.(frame) ?? null),
      )
  }
  if (node.index.type === 'tuple' && node.index.items.some(({ type }) => type === 'slice')) {
    fail('a slice stands alone in brackets', node)
  }
  const index = expression(node.index, place)
  return (frame) => getItem(of(frame), index(frame))
}

function conditional(node: Nodes.Conditional, place: Place): Evaluate {
  const soft = { ...place, soft: true }
  const condition = expression(node.test, soft)
  const then = expression(node.value, soft)
  if (node.otherwise === null) {
    const none = new Undefined(
      () =>
        `the inline if-expression on line ${node.line} evaluated to false and no else section was defined.`,
    )
    return (frame) => (isTrue(condition(frame)) ? then(frame) : none)
  }
  const otherwise = expression(node.otherwise, soft)
  return (frame) => (isTrue(condition(frame)) ? then(frame) : otherwise(frame))
}

function unaryOperation(node: Nodes.Unary, place: Place): Evaluate {
  const operand = expression(node.operand, place)
  const { operator } = node
  if (operator === 'not') return (frame) => !isTrue(operand(frame))
  return (frame) => unary(operator, operand(frame))
}

function binaryOperation(node: Nodes.Binary, place: Place): Evaluate {
  const left = expression(node.left, place)
  const right = expression(node.right, place)
  const { operator } = node
  if (operator === 'and') {
    return (frame) => {
      const value = left(frame)
      return isTrue(value) ? right(frame) : value
    }
  }
  if (operator === 'or') {
    return (frame) => {
      const value = left(frame)
      return isTrue(value) ? value : right(frame)
    }
  }
  return (frame) => binary(operator, left(frame), right(frame))
}

function comparison(node: Nodes.Compare, place: Place): Evaluate {
  const first = expression(node.first, place)
  const others = all(node.others, place)
  const { operators } = node
  if (operators.length === 1) {
    const other = others[0]!
    const operator = operators[0]!
    if (operator === '==') return (frame) => equal(first(frame), other(frame))
    if (operator === '!=') return (frame) => !equal(first(frame), other(frame))
    if (operator === 'in') {
      return (frame) => {
        const value = first(frame)
        return contains(other(frame), value)
      }
    }
    return (frame) => ordered(operator, first(frame), other(frame))
  }
  return (frame) => {
    let left = first(frame)
    for (let i = 0; i < others.length; i++) {
      const right = others[i]!(frame)
      if (!ordered(operators[i]!, left, right)) return false
      left = right
    }
    return true
  }
}

type Given = (frame: Frame, args: Value[]) => Keywords | null

/** Evaluates arguments: pushes those by position, and returns those by name. */
export function givenArguments(node: Nodes.Arguments, place: Place): Given {
  const args = all(node.args, place)
  const keywords = node.keywords.map(({ name, value }) => ({ name, value: expression(value, place) }))
  const rest = node.rest === null ? null : expression(node.rest, place)
  const restKeywords = node.restKeywords === null ? null : expression(node.restKeywords, place)
  const simple = keywords.length === 0 && rest === null && restKeywords === null
  return (frame, into) => {
    for (const arg of args) into.push(arg(frame))
    if (simple) return null
    const named = new Map<string, Value>()
    // As Python: `*args` before the values of keywords.
    if (rest !== null) for (const value of itemsOf(rest(frame))) into.push(value)
    for (const { name, value } of keywords) named.set(name, value(frame))
    if (restKeywords !== null) {
      const dict = restKeywords(frame)
      if (!(dict instanceof Dict)) throw typeError('argument after ** must be a mapping')
      for (const { key, value } of dict.entries()) {
        if (!isStr(key)) throw typeError('keywords must be strings')
        if (named.has(raw(key))) throw typeError(`got multiple values for keyword argument '${raw(key)}'`)
        named.set(raw(key), value)
      }
    }
    return named.size > 0 ? named : null
  }
}

/** Compiles a call; `caller` gives the macro of a call block. */
export function calling(node: Nodes.Call, place: Place, caller?: Evaluate): Evaluate {
  const given = givenArguments(node, place)
  const keywordsOf = (frame: Frame, args: Value[]) => {
    const keywords = given(frame, args)
    return caller === undefined ? keywords : new Map(keywords ?? []).set('caller', caller(frame))
  }
  if (node.callee.type === 'attribute') {
    const { name } = node.callee
    const of = expression(node.callee.of, place)
    const onString = stringMethod(name)
    const onDict = dictMethod(name)
    return (frame) => {
      charge(4)
      const value = of(frame)
      const args: Value[] = [value]
      if (onString !== undefined && isStr(value)) {
        charge(raw(value).length / 64)
        return onString(args, keywordsOf(frame, args))
      }
      if (onDict !== undefined && value instanceof Dict) return onDict(args, keywordsOf(frame, args))
      const callee = getAttribute(value, name)
      args.length = 0
      return call(callee, args, keywordsOf(frame, args))
    }
  }
  const callee = expression(node.callee, place)
  return (frame) => {
    charge(4)
    const value = callee(frame)
    const args: Value[] = []
    return call(value, args, keywordsOf(frame, args))
  }
}

/** Compiles a filter; `body` gives the text of the block that it ends. */
export function filter(node: Nodes.FilterNode, place: Place, body: Evaluate | null): Evaluate {
  const operand =
    node.operand === null
      ? body!
      : node.operand.type === 'filter'
        ? filter(node.operand, place, body)
        : expression(node.operand, place)
  const apply = filterNamed(node.name)
  if (apply === undefined && !place.soft) fail(`no filter is named '${node.name}'`, node)
  const given = givenArguments(node, place)
  return (frame) => {
    charge(4)
    if (apply === undefined) throw new Failure('TemplateError', `no filter is named '${node.name}'`)
    const value = operand(frame)
    if (isStr(value)) charge(raw(value).length / 64)
    const args: Value[] = [value]
    return apply(args, given(frame, args))
  }
}

function test(node: Nodes.TestNode, place: Place): Evaluate {
  const operand = expression(node.operand, place)
  const holds = testNamed(node.name)
  if (holds === undefined && !place.soft) fail(`no test is named '${node.name}'`, node)
  if (holds === undefined) {
    return () => {
      throw new Failure('TemplateError', `no test is named '${node.name}'`)
    }
  }
  const given = givenArguments(node, place)
  return (frame) => {
    const args: Value[] = [operand(frame)]
    return holds(args, given(frame, args))
  }
}
