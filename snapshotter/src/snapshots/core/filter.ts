import { CodedError } from '@sepia/base/errors';
import { tryParse } from '@sepia/base/failure';

/** What a filter can ask of a snapshot. */
export interface Filterable {
  readonly name: string;
  readonly parent: string;
  readonly kind: string;
  readonly labels: Readonly<Record<string, string>>;
}

type Test = (one: Filterable) => boolean;

/** Found everywhere, be it empty. */
const SPACE = /\s*/y;
const IDENTIFIER = /[A-Za-z][A-Za-z0-9_]*/y;
const QUOTED = /"(?:[^"\\]|\\.)*"/y;
const OPERATOR = /==|!=|~=/y;
const BARE = /[^\s,"]+/y;
/** Longer ones are none of containerd's. */
const MAX_FILTER = 16 * 1024;

/**
 * What containerd asks for with the filters of a List: any of them, each a list of selectors that all must hold
 * (`labels."containerd.io/snapshot.ref"==sha256:…,parent=="…"`). Without filters: all.
 * @throws {CodedError} `REQUEST_INVALID`
 */
export function parseFilters(filters: readonly string[]): Test {
  const tests = filters.map(parseFilter);
  return (one) => tests.length === 0 || tests.some((test) => test(one));
}

function parseFilter(text: string): Test {
  if (text === '') return () => true;
  if (text.length > MAX_FILTER) throw invalid(text.slice(0, 100), 'is too long');
  const scanner = new Scanner(text);
  const tests: Test[] = [];
  do tests.push(selector(scanner));
  while (scanner.take(/,/y) !== undefined);
  if (!scanner.isAtEnd) throw scanner.unexpected();
  return (one) => tests.every((test) => test(one));
}

function selector(scanner: Scanner): Test {
  const path = [field(scanner)];
  while (scanner.take(/\./y) !== undefined) path.push(field(scanner));
  const operator = scanner.take(OPERATOR);
  if (operator === undefined) return (one) => asked(one, path) !== undefined;
  const quoted = scanner.take(QUOTED);
  const value = quoted === undefined ? scanner.need(BARE) : unquoted(quoted);
  if (operator === '==') return (one) => asked(one, path) === value;
  if (operator === '!=') return (one) => (asked(one, path) ?? '') !== value;
  const pattern = patternOf(value);
  return (one) => pattern.test(asked(one, path) ?? '');
}

function field(scanner: Scanner): string {
  const quoted = scanner.take(QUOTED);
  return quoted === undefined ? scanner.need(IDENTIFIER) : unquoted(quoted);
}

function asked(one: Filterable, [first, ...rest]: readonly string[]): string | undefined {
  if (first === 'labels')
    return Object.hasOwn(one.labels, rest.join('.')) ? one.labels[rest.join('.')] : undefined;
  if (rest.length > 0) return undefined;
  if (first === 'name') return one.name;
  if (first === 'parent') return one.parent;
  return first === 'kind' ? one.kind : undefined;
}

/** The escapes of a Go string that JSON has too; others do not come from containerd. */
function unquoted(quoted: string): string {
  const parsed = tryParse(() => JSON.parse(quoted) as string);
  if (!parsed.ok) throw invalid(quoted, 'is not a string');
  return parsed.value;
}

function patternOf(value: string): RegExp {
  const parsed = tryParse(() => new RegExp(value, 'u'));
  if (!parsed.ok) throw invalid(value, 'is not a regular expression');
  return parsed.value;
}

class Scanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get isAtEnd(): boolean {
    this.#skip();
    return this.#at === this.#text.length;
  }

  take(token: RegExp): string | undefined {
    this.#skip();
    token.lastIndex = this.#at;
    const found = token.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  need(token: RegExp): string {
    const found = this.take(token);
    if (found === undefined) throw this.unexpected();
    return found;
  }

  unexpected(): CodedError {
    return invalid(this.#text, `is not understood at character ${this.#at}`);
  }

  #skip(): void {
    SPACE.lastIndex = this.#at;
    this.#at += SPACE.exec(this.#text)![0].length;
  }
}

function invalid(text: string, why: string): CodedError {
  return new CodedError('REQUEST_INVALID', { message: `filter ${JSON.stringify(text)} ${why}` });
}
