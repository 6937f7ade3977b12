import { YAMLParseError } from 'yaml';

/** A key at the beginning of a text, with the dash of a list before it or not. */
const KEY = /^[\s{,?-]*(?:"([^"\n]{1,100})"|'([^'\n]{1,100})'|([^\s"'{}[\],:#][^:\n]{0,100}?))\s*(?::|\n|$)/;

/** What the parser says of `*` before a name that no anchor has; it does not say where. */
const NO_ANCHOR = /^Unresolved alias \(.*\): (.*)$/;
/** What may stand before a value that begins on the same line. */
const BEFORE_VALUE = [' ', '[', '{', ','];
/** A value that begins with what YAML has another use for. */
const NEEDS_QUOTES: ReadonlySet<string> = new Set(['BAD_ALIAS', 'BAD_SCALAR_START']);

/** What is wrong with a text that is no YAML: the line, and the key there, in one line. */
export function yamlFault(error: unknown, text: string): string {
  const lines = text.split('\n');
  if (!(error instanceof YAMLParseError) || error.linePos === undefined) {
    const [said = ''] = String((error as Error).message).split('\n');
    return withoutAnchor(said, lines) ?? (said || 'not valid YAML');
  }
  const [{ line }] = error.linePos;
  const lineText = lines[line - 1] ?? '';
  if (error.code === 'DUPLICATE_KEY')
    return `line ${line}: key ${keyAt(text.slice(error.pos[0]))} stands twice`;
  if (error.code === 'MULTIPLE_DOCS') return `line ${line}: a second document begins; a file holds one`;
  const where = placeOf(line, lineText);
  if (/^\s*\t/.test(lineText)) return `${where}: a tab stands before it; indent by spaces`;
  const [what = ''] = error.message.split(/ at line \d+, column \d+/);
  return `${where}: ${what}${NEEDS_QUOTES.has(error.code) ? '; put it in quotes' : ''}`;
}

/** Globs begin with `*`, as aliases of YAML do: the slip that is made most. */
function withoutAnchor(said: string, lines: readonly string[]): string | undefined {
  const name = NO_ANCHOR.exec(said)?.[1];
  if (name === undefined) return undefined;
  const at = lines.findIndex((line) => BEFORE_VALUE.some((before) => line.includes(`${before}*${name}`)));
  return `${placeOf(at + 1, lines[at] ?? '')}: *${name} means an anchor, and there is none; put it in quotes`;
}

function placeOf(line: number, lineText: string): string {
  const key = keyAt(lineText);
  return `line ${line}${key === '' || key.startsWith('*') ? '' : `, key ${key}`}`;
}

function keyAt(text: string): string {
  const [, double, single, plain] = KEY.exec(text) ?? [];
  return double ?? single ?? plain ?? '';
}
