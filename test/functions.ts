/** A function or method of a file. */
export interface FoundFunction {
  readonly path: string;
  readonly name: string;
  /** Its first line, from 1. */
  readonly at: number;
  readonly lines: number;
}

const HEAD =
  /^(\s*)(?:export )?(?:(?:async )?function\*? (\w+)|(?:(?:static|async|get|set|override|private|protected) )*(?:\*)?(#?\w+)(?:<[^>]*>)?\()/;
const NO_METHOD = /^(?:if|for|while|switch|catch|return|await|super)$/;

/** Functions and methods that begin a line, with their length; what is formatted ends at its own indentation. */
export function functionsOf(path: string, text: string): FoundFunction[] {
  const all = text.split('\n');
  const found: FoundFunction[] = [];
  for (const [at, line] of all.entries()) {
    const [, indent, named, method = ''] = HEAD.exec(line) ?? [];
    if (indent === undefined || indent.length > 2 || NO_METHOD.test(method)) continue;
    if (named === undefined && indent.length !== 2) continue;
    const end = all.findIndex((each, index) => index >= at && each === `${indent}}`);
    const opens = all.slice(at, end + 1).findIndex((each) => each.endsWith('{'));
    if (end < 0 || opens < 0 || all.slice(at, at + opens).some((each) => /;\s*$/.test(each))) continue;
    if (all.slice(at + 1, end).some((each) => isDeclared(each, indent))) continue;
    found.push({ path, name: named ?? method, at: at + 1, lines: end - at + 1 });
  }
  return found;
}

/** The last line of what is declared without a body, as in an interface. */
function isDeclared(line: string, indent: string): boolean {
  return line.startsWith(`${indent})`) && line.endsWith(';');
}
