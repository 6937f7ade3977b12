import assert from 'node:assert';
import { deflateSync, inflateSync } from 'node:zlib';
import t from 'tap';
import { request } from 'undici';
import { CodedError } from '../src/errors.ts';
import {
  bugsSeen,
  ended,
  type Failure,
  ignoreFailure,
  isBug,
  logFailure,
  outcomeOf,
  readElsewhere,
  throwIfBug,
  tryParse,
} from '../src/failure.ts';

/** What `run` throws. */
async function thrownBy(run: () => unknown): Promise<unknown> {
  try {
    await run();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

const CASES: readonly [string, () => unknown, Failure][] = [
  ['a property of undefined', () => (undefined as unknown as { a: number }).a, 'bug'],
  ['a name that is not there', () => Function('return notThere')(), 'bug'],
  ['a fractional timeout', () => AbortSignal.timeout(1.5), 'bug'],
  ['an array of impossible length', () => new Array(-1), 'bug'],
  ['a failed assertion', () => assert.equal(1, 2), 'bug'],
  ['a wrong argument of Node', () => Buffer.alloc('x' as unknown as number), 'bug'],
  ['a header that undici refuses', () => request('http://127.0.0.1:1', { headers: { a: 'b\nc' } }), 'bug'],
  ['one bug among others', () => Promise.any([Promise.reject(new TypeError('x'))]), 'bug'],
  ['text that is no URL', () => new URL('::'), 'silence'],
  [
    'bytes that are no UTF-8',
    () => new TextDecoder('utf-8', { fatal: true }).decode(Buffer.of(0xff)),
    'silence',
  ],
  [
    'bytes that inflate to too much',
    () => inflateSync(deflateSync(Buffer.alloc(99)), { maxOutputLength: 9 }),
    'silence',
  ],
  ['text that is no JSON', () => JSON.parse('{'), 'silence'],
  ['a path that does not decode', () => decodeURIComponent('%'), 'silence'],
  ['a port where nobody listens', () => request('http://127.0.0.1:1'), 'silence'],
  [
    'a deadline',
    () => AbortSignal.abort(new DOMException('late', 'TimeoutError')).throwIfAborted(),
    'silence',
  ],
  ['a member that does not answer', () => Promise.reject(new CodedError('PEER_HTTP')), 'silence'],
  [
    'a member that answers with an error',
    () => Promise.reject(new CodedError('PEER_HTTP', { detail: { status: 500 } })),
    'refusal',
  ],
  ['a coded no', () => Promise.reject(new CodedError('BLOB_UNKNOWN')), 'refusal'],
  [
    'a coded error over a bug of another part',
    () => Promise.reject(new CodedError('INTERNAL', { cause: new TypeError('x') })),
    'refusal',
  ],
];

for (const [what, run, outcome] of CASES) {
  t.test(`${what} is ${outcome}`, async (t) => {
    const error = await thrownBy(run);
    t.equal(outcomeOf(error), outcome, String(error));
    t.equal(isBug(error), outcome === 'bug');
    if (outcome === 'bug') {
      t.throws(() => throwIfBug(error));
      t.throws(() => ignoreFailure(error));
    } else {
      throwIfBug(error);
      t.equal(ignoreFailure(error), undefined);
    }
  });
}

t.test('a bug in a background task is logged at error and counted', async (t) => {
  const lines: [string, object][] = [];
  const log = Object.fromEntries(
    ['debug', 'info', 'warn', 'error'].map((level) => [level, (facts: object) => lines.push([level, facts])]),
  ) as unknown as Parameters<typeof logFailure>[0];
  const before = bugsSeen();
  logFailure(log, new CodedError('TIMEOUT'), 'late', {}, 'debug');
  t.equal(bugsSeen(), before);
  logFailure(log, new TypeError('wrong'), 'late', { id: 1 }, 'debug');
  t.equal(bugsSeen(), before + 1);
  t.match(lines, [
    ['debug', {}],
    ['error', { id: 1, bug: true }],
  ]);
});

t.test('a failure that others read is no unhandled rejection here', async (t) => {
  const failing = Promise.reject(new TypeError('read elsewhere'));
  let told = false;
  readElsewhere(failing, () => {
    told = true;
  });
  await ended(failing);
  t.ok(told);
  await t.rejects(failing, { message: 'read elsewhere' });
  await ended(undefined);
});

t.test('whatever a foreign parser throws is a fault of what it read', async (t) => {
  t.same(
    tryParse(() => 1),
    { ok: true, value: 1 },
  );
  t.match(
    tryParse(() => (null as unknown as { a: number }).a),
    { ok: false, cause: TypeError },
  );
});
