import { globSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';

const ROOT = resolve(import.meta.dirname, '..');
/** Calls that tell a bug from an outcome: they throw it on, or log and count it. */
const TELLING =
  /\b(?:throwIfBug|isBug|outcomeOf|logFailure|noteBug|upstreamError|wireError|failedWith|asInvalid)\(|\b(?:reject|fail|abort|crash|onFailed|onFailure|onError|onEvent|push|exit|destroy)\(|\bexitCode\b/;
/** `.catch(NAME)`: functions that throw a bug on. */
const HANDLERS = /^(?:ignoreFailure|noteFull|reject)$/;
/** `throw error` under a condition that is true of every bug: it is not one of the errors that are expected. */
const UNLESS_EXPECTED =
  /\bif \((?:[^&]*\|\| )?!(?:\w+\(NAME\b[^&]*|\(?NAME instanceof \w+\)?[^&]*)(?: && !\w+\(NAME\b[^&]*)*\)\s*(?:\{\s*)?throw NAME;/;
/** Compressed data that is damaged. */
const UNLESS_ZLIB = /\bif \(code\?\.startsWith\('Z_'\) !== true[^)]*\) throw NAME;/;
const UNLESS_CODE = /\bif \(systemCode\(NAME\) !== '\w+'\) throw NAME;/;

const FILES = globSync(['*/src/**/*.ts', 'shared/*/src/**/*.ts'], {
  cwd: ROOT,
  exclude: (name) => name === 'node_modules' || name.startsWith('.'),
})
  .filter((path) => path !== 'shared/base/src/failure.ts')
  .sort();

t.test('sources were found', async (t) => {
  t.ok(FILES.length > 300);
});

t.test('no failure is caught without a name', async (t) => {
  t.same(found(/\bcatch \{|\.catch\(\(\) =>|\.catch\(\(_/g), []);
});

t.test('a catch tells a bug from an outcome', async (t) => {
  const wrong: string[] = [];
  let seen = 0;
  for (const path of FILES) {
    const code = withoutComments(readFileSync(join(ROOT, path), 'utf8'));
    for (const { name, body, line } of catches(code)) {
      seen += 1;
      if (!tells(name, body)) wrong.push(`${path}:${line}`);
    }
  }
  t.ok(seen > 200, 'catches were found');
  t.same(wrong, [], 'call throwIfBug, logFailure or another of the kind (shared/base/src/failure.ts)');
});

t.test('a handler of a rejection by name throws a bug on', async (t) => {
  const wrong: string[] = [];
  for (const path of FILES) {
    const code = withoutComments(readFileSync(join(ROOT, path), 'utf8'));
    for (const [, name] of code.matchAll(/\.catch\((\w+)\)/g))
      if (!HANDLERS.test(name!)) wrong.push(`${path}: .catch(${name})`);
  }
  t.same(wrong, []);
});

t.test('the rule finds what it is for', async (t) => {
  const bad = [
    'try { a(); } catch (error) { log(error); }',
    'try { a(); } catch (error) { throw new CodedError("X", { cause: error }); }',
    'try { a(); } catch (error) { if (tries > 3) throw error; again(); }',
    'try { a(); } catch (error) { if (isCoded(error) && late) throw error; }',
    'a().catch((error: unknown) => log.warn({ err: error }))',
    'a().then(() => good(), () => { left -= 1; })',
    'a().then((one) => good(one), (error: unknown) => log.warn({ err: error }))',
  ];
  for (const code of bad)
    t.same(
      [...catches(code)].map((one) => tells(one.name, one.body)),
      [false],
      code,
    );
  const good = [
    'try { a(); } catch (error) { throwIfBug(error); }',
    'try { a(); } catch (error) { release(); throw error; }',
    "try { a(); } catch (error) { if (!isCoded(error, 'X')) throw error; again(); }",
    'a().catch((error: unknown) => { throwIfBug(error); missed(); })',
  ];
  for (const code of good)
    t.same(
      [...catches(code)].map((one) => tells(one.name, one.body)),
      [true],
      code,
    );
});

function tells(name: string, body: string): boolean {
  if (TELLING.test(body)) return true;
  if (new RegExp(`(?:^|[;}]\\s*|else )throw (?:[^;]* \\? [^;]*:\\s*)?${name};\\s*$`).test(body)) return true;
  return [UNLESS_EXPECTED, UNLESS_CODE, UNLESS_ZLIB].some((rule) =>
    new RegExp(rule.source.replaceAll('NAME', name)).test(body),
  );
}

/** Every `catch (name) { body }` and `.catch((name) => body)` of a file. */
function* catches(code: string): Generator<{ name: string; body: string; line: number }> {
  for (const match of code.matchAll(/\bcatch \((\w+)(?:: unknown)?\) \{/g))
    yield {
      name: match[1]!,
      body: inside(code, match.index + match[0].length, '{', '}'),
      line: lineOf(match.index),
    };
  for (const match of code.matchAll(/\.catch\((?:async )?\((\w+)(?:: unknown)?\) =>/g))
    yield {
      name: match[1]!,
      body: arrow(inside(code, match.index + '.catch('.length, '(', ')')),
      line: lineOf(match.index),
    };
  for (const match of code.matchAll(/\.then\(/g)) {
    const failed = secondArgument(inside(code, match.index + match[0].length, '(', ')'));
    const name = /^(?:async )?\((\w+)(?:: unknown)?\) =>/.exec(failed)?.[1];
    if (name !== undefined) yield { name, body: arrow(failed), line: lineOf(match.index) };
    else if (/^(?:async )?\(\) =>/.test(failed))
      yield { name: 'nameless', body: '', line: lineOf(match.index) };
  }
  function lineOf(index: number): number {
    return code.slice(0, index).split('\n').length;
  }
}

/** The text after the first comma that is in no bracket; empty if there is none. */
function secondArgument(text: string): string {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    if ('([{'.includes(text[at]!)) depth += 1;
    else if (')]}'.includes(text[at]!)) depth -= 1;
    else if (text[at] === ',' && depth === 0) return text.slice(at + 1).trim();
  }
  return '';
}

/** The body of an arrow function, without its braces. */
function arrow(text: string): string {
  return text
    .slice(text.indexOf('=>') + 2)
    .trim()
    .replace(/^\{([\s\S]*)\},?$/, '$1')
    .trim();
}

/** Text from `from` to the bracket that closes the one before it. */
function inside(code: string, from: number, open: string, close: string): string {
  let depth = 1;
  for (let at = from; at < code.length; at++) {
    if (code[at] === open) depth += 1;
    else if (code[at] === close) depth -= 1;
    if (depth === 0) return code.slice(from, at).trim();
  }
  return code.slice(from);
}

function found(pattern: RegExp): string[] {
  return FILES.flatMap((path) => {
    const code = withoutComments(readFileSync(join(ROOT, path), 'utf8'));
    return [...code.matchAll(pattern)].map(
      (match) => `${path}:${code.slice(0, match.index).split('\n').length} ${match[0]}`,
    );
  });
}

/** Comments become as many blank lines; strings stay. */
function withoutComments(text: string): string {
  return text.replace(
    /("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (all, string: string | undefined) => string ?? all.replace(/[^\n]/g, ''),
  );
}
