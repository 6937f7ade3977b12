/** One challenge of a `WWW-Authenticate` header (RFC 9110, 11.6.1): scheme and parameter names in lower case. */
export interface Challenge {
  readonly scheme: string;
  readonly params: ReadonlyMap<string, string>;
}

/** More characters than this are not looked at: no registry sends them. */
const MAX_HEADER_CHARS = 8 * 1024;
const TOKEN = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const BLANK = /[ \t,]*/y;
const EQUALS = /[ \t]*=[ \t]*/y;
const QUOTED = /"((?:[^"\\]|\\[\s\S])*)"/y;
const BARE = /[^\s,]*/y;

/**
 * Reads all challenges of all `WWW-Authenticate` headers, in order. Commas inside quotes belong to the value;
 * what is malformed is skipped, never thrown on.
 */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const text = (typeof header === 'string' ? header : (header ?? []).join(', ')).slice(0, MAX_HEADER_CHARS);
  const found: { scheme: string; params: Map<string, string> }[] = [];
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match !== null) at = pattern.lastIndex;
    return match;
  };
  while (at < text.length) {
    take(BLANK);
    const word = take(TOKEN)?.[0];
    if (word === undefined) {
      at += 1;
      continue;
    }
    if (take(EQUALS) === null) {
      found.push({ scheme: word.toLowerCase(), params: new Map() });
      continue;
    }
    const quoted = take(QUOTED)?.[1];
    const value = quoted === undefined ? take(BARE)![0] : quoted.replaceAll(/\\([\s\S])/g, '$1');
    found.at(-1)?.params.set(word.toLowerCase(), value);
  }
  return found;
}

/** A Bearer challenge that can be followed: where to get a token and for what. */
export interface BearerChallenge {
  readonly realm: string;
  readonly service: string | undefined;
  readonly scope: string | undefined;
}

/** The first Bearer challenge with an http(s) realm, if there is one. */
export function bearerOf(challenges: readonly Challenge[]): BearerChallenge | undefined {
  for (const { scheme, params } of challenges) {
    const realm = params.get('realm');
    if (scheme !== 'bearer' || realm === undefined || !/^https?:\/\//i.test(realm) || !URL.canParse(realm))
      continue;
    // An empty scope says nothing of what to ask for.
    const scope = params.get('scope');
    return { realm, service: params.get('service'), scope: scope?.trim() === '' ? undefined : scope };
  }
  return undefined;
}
