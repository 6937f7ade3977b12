/** Keys that are looked for in the objects at a path: `layers.*` are the entries of the list `layers`. */
export type Watched = Readonly<Record<string, readonly string[]>>;

interface Level {
  readonly path: string;
  readonly isList: boolean;
  readonly seen: Set<string>;
  /** Of an object: the key whose value comes next. */
  key: string | undefined;
}

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs;

/**
 * True if readers of this JSON can understand it differently: a watched key is there twice, or spelled with other
 * capitals. containerd's reader (Go) takes `RootFS` for `rootfs`, and merges what is there twice; JavaScript does not.
 * @param text JSON that parses
 */
export function isTwofold(text: string, watched: Watched): boolean {
  const levels: Level[] = [];
  const open = (isList: boolean): void => {
    const above = levels.at(-1);
    const step = above === undefined ? '' : above.isList ? '*' : above.key!;
    const path = above === undefined || above.path === '' ? step : `${above.path}.${step}`;
    levels.push({ path, isList, seen: new Set(), key: undefined });
  };
  for (const [token] of text.matchAll(TOKEN)) {
    const level = levels.at(-1);
    if (token === '{' || token === '[') open(token === '[');
    else if (token === '}' || token === ']') levels.pop();
    else if (token === ',' && level !== undefined) level.key = undefined;
    else if (level !== undefined && !level.isList && level.key === undefined && token.startsWith('"')) {
      const key = JSON.parse(token) as string;
      const folded = fold(key);
      level.key = folded;
      // The path is whatever a pushed manifest says: `constructor` is one too.
      if (!Object.hasOwn(watched, level.path) || !watched[level.path]!.includes(folded)) continue;
      if (!isRight(key, folded) || level.seen.has(folded)) return true;
      level.seen.add(folded);
    }
  }
  return false;
}

/** Keys are written in small letters, but for one. */
function isRight(key: string, folded: string): boolean {
  return key === (folded === 'mediatype' ? 'mediaType' : folded);
}

/** As Go compares names of fields: without capitals, in Unicode (`ſ` is an s there). */
function fold(key: string): string {
  return key.toUpperCase().toLowerCase();
}
