/** Names of characters that HTML reads without a semicolon. */
const NAMES = [
  ...'AElig AMP Aacute Acirc Agrave Aring Atilde Auml COPY Ccedil ETH Eacute Ecirc Egrave Euml GT Iacute'.split(
    ' ',
  ),
  ...'Icirc Igrave Iuml LT Ntilde Oacute Ocirc Ograve Oslash Otilde Ouml QUOT REG THORN Uacute Ucirc'.split(
    ' ',
  ),
  ...'Ugrave Uuml Yacute aacute acirc acute aelig agrave amp aring atilde auml brvbar ccedil cedil cent'.split(
    ' ',
  ),
  ...'copy curren deg divide eacute ecirc egrave eth euml frac12 frac14 frac34 gt iacute icirc iexcl'.split(
    ' ',
  ),
  ...'igrave iquest iuml laquo lt macr micro middot nbsp not ntilde oacute ocirc ograve ordf ordm oslash'.split(
    ' ',
  ),
  ...'otilde ouml para plusmn pound quot raquo reg sect shy sup1 sup2 sup3 szlig thorn times uacute ucirc'.split(
    ' ',
  ),
  ...'ugrave uml uuml yacute yen yuml'.split(' '),
]
const NAMED = new RegExp(`&(${NAMES.join('|')})`)
const NUMBERED = /&(#\d|#x[\da-f]|[a-z\d]{1,32};)/i

/** Whether a browser reads a character by its name or number in a text. */
export function hasEntity(text: string): boolean {
  return text.includes('&') && (NUMBERED.test(text) || NAMED.test(text))
}
