import { CodedError } from '@sepia/base/errors';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { CallVerifier, NONCE_KEEP_MS, SIGN_SKEW_MS, type SignedCall, signCall } from '../src/sign.ts';

const KEY = Buffer.alloc(32, 1);
const NOW = 1_800_000_000_000;
const CALL: SignedCall = { method: 'PUT', path: '/v1/nodes/a?x=1', bodyBytes: 7 };

function refused(t: Test, why: RegExp, run: () => unknown, message: string): void {
  t.throws(run, { code: 'SIGNATURE_INVALID', detail: { why } }, message);
}

t.test('a signed call names its caller', async (t) => {
  const header = signCall(KEY, 'agent-1', CALL, NOW);
  t.match(header, /^Sepia v=1,id=agent-1,date=1800000000000,nonce=[0-9a-f]{32},sig=[0-9a-f]{64}$/);
  t.equal(new CallVerifier(KEY).verify(header, CALL, NOW), 'agent-1');
});

t.test('another key, method, path, query, length, caller, date or nonce is refused', async (t) => {
  const header = signCall(KEY, 'agent-1', CALL, NOW);
  const verify =
    (text: string, call: SignedCall, key = KEY) =>
    () =>
      new CallVerifier(key).verify(text, call, NOW);
  refused(t, /another cluster key/, verify(header, CALL, Buffer.alloc(32, 2)), 'key');
  for (const change of [
    { method: 'GET' },
    { path: '/v1/nodes/b?x=1' },
    { path: '/v1/nodes/a?x=2' },
    { path: '/v1/nodes/a' },
    { bodyBytes: 8 },
    { bodyBytes: -1 },
  ]) {
    refused(t, /another call/, verify(header, { ...CALL, ...change }), JSON.stringify(change));
  }
  refused(t, /another call/, verify(header.replace('agent-1', 'agent-2'), CALL), 'caller');
  refused(t, /another call/, verify(header.replace(String(NOW), String(NOW + 1)), CALL), 'date');
  refused(
    t,
    /another call/,
    verify(
      header.replace(/nonce=./, (text) => (text.endsWith('0') ? 'nonce=1' : 'nonce=0')),
      CALL,
    ),
    'nonce',
  );
});

t.test('a date is believed up to the skew, before and after', async (t) => {
  for (const offMs of [-SIGN_SKEW_MS, SIGN_SKEW_MS]) {
    t.equal(
      new CallVerifier(KEY).verify(signCall(KEY, 'a', CALL, NOW + offMs), CALL, NOW),
      'a',
      String(offMs),
    );
    refused(
      t,
      /clocks/,
      () => new CallVerifier(KEY).verify(signCall(KEY, 'a', CALL, NOW + offMs + Math.sign(offMs)), CALL, NOW),
      String(offMs),
    );
  }
});

t.test('a call passes once for as long as its date is believed', async (t) => {
  const verifier = new CallVerifier(KEY);
  const header = signCall(KEY, 'a', CALL, NOW + SIGN_SKEW_MS);
  verifier.verify(header, CALL, NOW);
  for (const laterMs of [0, 1, 60_000, NONCE_KEEP_MS - 1, NONCE_KEEP_MS, NONCE_KEEP_MS + 1]) {
    refused(
      t,
      laterMs <= NONCE_KEEP_MS ? /replayed/ : /clocks/,
      () => verifier.verify(header, CALL, NOW + laterMs),
      `${laterMs} ms later`,
    );
  }
});

t.test('a refused call does not use up its nonce', async (t) => {
  const verifier = new CallVerifier(KEY);
  const header = signCall(KEY, 'a', CALL, NOW);
  t.throws(() => verifier.verify(header, { ...CALL, method: 'GET' }, NOW));
  t.equal(verifier.verify(header, CALL, NOW), 'a');
});

t.test('no header, or anything in it, is refused and nothing else', async (t) => {
  const good = signCall(KEY, 'a', CALL, NOW);
  const mangled = fc
    .tuple(fc.nat(good.length), fc.nat(3), fc.string({ maxLength: 3 }))
    .map(([at, cut, add]) => good.slice(0, at) + add + good.slice(at + cut));
  fc.assert(
    fc.property(fc.oneof(fc.constant(undefined), fc.string(), mangled), (header) => {
      if (header === good) return true;
      try {
        new CallVerifier(KEY).verify(header, CALL, NOW);
        return false;
      } catch (error) {
        return error instanceof CodedError && error.code === 'SIGNATURE_INVALID';
      }
    }),
    { numRuns: 3000 },
  );
  t.pass('held');
});
