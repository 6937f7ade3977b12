/** What matters for where a line stands: a comment, a string, how a string of several lines begins, brackets. */
const TOKEN = /#.*|"""|'''|"(?:[^"\\]|\\.)*"|'[^']*'|[[\]{}]/;
/** Up to the end of a string of several lines, by how it began. */
const ENDS = { '"""': /^(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}/, "'''": /^(?:[^']|'{1,2}(?!'))*'{3,5}/ } as const;

/**
 * The lines of a TOML file, blank where they go on with a list, an inline table or a string of a line before: what stands there
 * is no key and no table, however it looks. As many as were given.
 */
export function ownLines(lines: readonly string[]): string[] {
  let depth = 0;
  let within: keyof typeof ENDS | undefined;
  return lines.map((line) => {
    const isOwn = depth === 0 && within === undefined;
    let rest = line;
    for (;;) {
      const found: RegExpExecArray | null = (within === undefined ? TOKEN : ENDS[within]).exec(rest);
      if (found === null) return isOwn ? line : '';
      const [token] = found;
      rest = rest.slice(found.index + token.length);
      if (within !== undefined) within = undefined;
      else if (token === '"""' || token === "'''") within = token;
      else if (token === '[' || token === '{') depth += 1;
      else if (token === ']' || token === '}') depth = Math.max(0, depth - 1);
    }
  });
}
