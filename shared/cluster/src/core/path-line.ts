/** A part of a file, in bytes. */
export interface FilePart {
  readonly offset: number;
  readonly length: number;
}

const PART = /^(\d{1,15})\+(\d{1,15})$/;

/** A line of a list: a path, and of a large file a tab and the part that is read, as `offset+length`. */
export function pathLine(path: string, part: FilePart | undefined): string {
  return part === undefined ? path : `${path}\t${part.offset}+${part.length}`;
}

/** What a line of a list names; what stands behind the last tab and is no part belongs to the path. */
export function readPathLine(line: string): { readonly path: string; readonly part?: FilePart } {
  const tab = line.lastIndexOf('\t');
  const found = tab < 0 ? null : PART.exec(line.slice(tab + 1));
  if (found === null) return { path: line };
  return { path: line.slice(0, tab), part: { offset: Number(found[1]), length: Number(found[2]) } };
}

/** The files of a list, each once, in its order. */
export function filesOf(lines: readonly string[]): string[] {
  return [...new Set(lines.map((line) => readPathLine(line).path))];
}
