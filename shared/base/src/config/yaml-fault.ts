import { YAMLParseError } from 'yaml';

/** A key at the beginning of a text, with the dash of a list before it or not. */
const KEY = /^[\s{,?-]*(?:"([^"\n]{1,100})"|'([^'\n]{1,100})'|([^\s"'{}[\],:#][^:\n]{0,100}?))\s*(?::|\n|$)/;

/** What is wrong with a text that is no YAML: the line, and the key there, in one line. */
export function yamlFault(error: unknown, text: string): string {
  if (!(error instanceof YAMLParseError) || error.linePos === undefined)
    return String((error as Error).message).split('\n')[0] || 'not valid YAML';
  const [{ line }] = error.linePos;
  const lineText = text.split('\n')[line - 1] ?? '';
  if (error.code === 'DUPLICATE_KEY')
    return `line ${line}: key ${keyAt(text.slice(error.pos[0]))} stands twice`;
  const key = keyAt(lineText);
  const where = `line ${line}${key === '' ? '' : `, key ${key}`}`;
  if (/^\s*\t/.test(lineText)) return `${where}: a tab stands before it; indent by spaces`;
  const [what = ''] = error.message.split(/ at line \d+, column \d+/);
  return `${where}: ${what}`;
}

function keyAt(text: string): string {
  const [, double, single, plain] = KEY.exec(text) ?? [];
  return double ?? single ?? plain ?? '';
}
