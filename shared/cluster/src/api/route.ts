import type { PathParams, RouteName, Verb } from '@sepia/http/router';

/** Method and path with query of a call, as the signed client takes them. */
export interface RouteCall {
  readonly method: Verb | 'HEAD';
  readonly path: string;
}

/** Who calls a route: a role, or an operator by the command line. */
export type Caller = 'origin' | 'tracker' | 'agent' | 'proxy' | 'accelerator' | 'snapshotter' | 'cli';

/**
 * What a call carries. `stream`: as long as it may be, signed by its length, for its digest is in the path or comes with
 * the session's end; every other body is signed by its hash.
 */
export type RouteBody =
  | { readonly kind: 'none'; readonly maxBytes: 0 }
  | { readonly kind: 'json' | 'bytes'; readonly maxBytes: number }
  | { readonly kind: 'stream'; readonly maxBytes: number };

/**
 * One call between members: a server registers by it, a client builds by it, and docs/internal-api.md lists it.
 * All are signed; a `GET` answers `HEAD` too. `query` has the keys in the order in which they are sent: `key?` may be
 * left out, `key*` may be there several times.
 */
export interface Route<
  Method extends Verb = Verb,
  Path extends string = string,
  Query extends readonly string[] = readonly string[],
> extends RouteName<Method, Path> {
  readonly query: Query;
  readonly callers: readonly Caller[];
  readonly body: RouteBody;
}

type Value = string | number | boolean;
type Key<Query extends readonly string[]> = Query[number];
type Needed<Query extends readonly string[]> = Exclude<Key<Query>, `${string}?` | `${string}*`>;
type Optional<One> = One extends `${infer Name}?` ? Name : never;
type Repeated<One> = One extends `${infer Name}*` ? Name : never;

/** What a call needs: parameters of the path and keys of the query. `true` is sent as 1; false and undefined are not sent. */
export type CallValues<Path extends string, Query extends readonly string[]> = {
  readonly [One in PathParams<Path> | Needed<Query>]: Value;
} & { readonly [One in Optional<Key<Query>>]?: Value | undefined } & {
  readonly [One in Repeated<Key<Query>>]?: readonly string[] | undefined;
};

/** The last parameter of {@link to}: left out where nothing is needed. */
type Values<Path extends string, Query extends readonly string[]> =
  object extends CallValues<Path, Query> ? [values?: CallValues<Path, Query>] : [CallValues<Path, Query>];

interface RouteFacts<Query extends readonly string[]> {
  readonly query?: Query;
  readonly callers: readonly Caller[];
  readonly json?: number;
  readonly bytes?: number;
  readonly stream?: true;
}

/** A line of a table of routes. `line` is method and path; `json` and `bytes` say how long the body may be, in bytes. */
export function route<Method extends Verb, Path extends string, const Query extends readonly string[] = []>(
  name: string,
  line: `${Method} ${Path}`,
  facts: RouteFacts<Query>,
): Route<Method, Path, Query> {
  const space = line.indexOf(' ');
  return {
    name,
    method: line.slice(0, space) as Method,
    path: line.slice(space + 1) as Path,
    query: facts.query ?? ([] as unknown as Query),
    callers: facts.callers,
    body: bodyOf(facts),
  };
}

function bodyOf({ json, bytes, stream }: RouteFacts<readonly string[]>): RouteBody {
  if (stream === true) return { kind: 'stream', maxBytes: Number.POSITIVE_INFINITY };
  if (json !== undefined) return { kind: 'json', maxBytes: json };
  return bytes === undefined ? { kind: 'none', maxBytes: 0 } : { kind: 'bytes', maxBytes: bytes };
}

/**
 * Method and path with query of a call. Keys of `values` that the route does not have are left out: a name that says more
 * may be given as it is.
 */
export function to<Method extends Verb, Path extends string, const Query extends readonly string[]>(
  { method, path, query }: Route<Method, Path, Query>,
  ...[values]: Values<Path, Query>
): { readonly method: Method; readonly path: string } {
  const given = (values ?? {}) as Readonly<Record<string, unknown>>;
  const filled = path.replace(/:(\w+)/g, (_all, name: string) => segment(String(given[name])));
  const sent = new URLSearchParams();
  for (const key of query) {
    const name = key.replace(/[?*]$/, '');
    for (const value of [given[name]].flat()) {
      if (value !== undefined && value !== false) sent.append(name, value === true ? '1' : String(value));
    }
  }
  return { method, path: sent.size === 0 ? filled : `${filled}?${sent}` };
}

/** As {@link to}, for the head of an answer only. */
export function headTo<Path extends string, const Query extends readonly string[]>(
  line: Route<'GET', Path, Query>,
  ...values: Values<Path, Query>
): { readonly method: 'HEAD'; readonly path: string } {
  return { method: 'HEAD', path: to(line, ...values).path };
}

/** A part of a path; the colon of a digest stays as it is. */
function segment(text: string): string {
  return encodeURIComponent(text).replaceAll('%3A', ':');
}
