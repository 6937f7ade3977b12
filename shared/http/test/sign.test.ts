import { CodedError } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t, { type Test } from 'tap';
import {
  CallVerifier,
  type CallVerifierOptions,
  hashOf,
  NONCE_KEEP_MS,
  type RefusedWhy,
  SIGN_EARLY_MS,
  SIGN_SKEW_MS,
  type SignedCall,
  signCall,
} from '../src/sign.ts';
import { signOld } from '../src/sign-old.ts';

const KEY = Buffer.alloc(32, 1);
const NOW = 1_800_000_000_000;
const SIGNER = { clusterKey: KEY, id: 'agent-1' };
const CALL: SignedCall = {
  method: 'PUT',
  path: '/v1/nodes/a?x=1',
  headers: { 'sepia-hop': '1', 'content-type': 'application/json', 'user-agent': 'any' },
  body: hashOf('{"a":1}'),
};

interface Setting extends CallVerifierOptions {
  readonly key?: Uint8Array;
  readonly nowMs?: () => number;
}

function verifierOf({ key = KEY, nowMs = () => NOW, ...options }: Setting = {}): CallVerifier {
  let hasBegun = false;
  // It began so long ago that every call which is believed was made since.
  const steadyMs = (): number => nowMs() - (hasBegun ? 0 : NONCE_KEEP_MS);
  const verifier = new CallVerifier({ clusterKey: key, selfId: 'origin-1', nowMs, steadyMs }, options);
  hasBegun = true;
  return verifier;
}

/** The call as it arrives, with the signature that it was sent with. */
function received(authorization: string | undefined, call: SignedCall = CALL, more: object = {}) {
  const { method, path, headers } = call;
  return { method, path, headers: { ...headers, authorization, ...more }, bodyBytes: 7 };
}

function refused(t: Test, why: RegExp, run: () => unknown, message: string): void {
  t.throws(run, { code: 'SIGNATURE_INVALID', detail: { why } }, message);
}

t.test('a signed call names its caller, its recipient and its body', async (t) => {
  const header = signCall(SIGNER, 'origin-1', CALL, NOW);
  t.match(
    header,
    /^Sepia v=2,id=agent-1,to=origin-1,date=1800000000000,nonce=[0-9a-f]{32},body=sha256:[0-9a-f]{64},sig=[0-9a-f]{64}$/,
  );
  t.same(verifierOf().verify(received(header)), { caller: 'agent-1', body: CALL.body });
  for (const body of [{ type: 'length', bytes: 7 }, { type: 'chunked' }] as const) {
    const streamed = signCall(SIGNER, 'origin-1', { ...CALL, body }, NOW);
    t.same(verifierOf().verify(received(streamed)).body, body);
  }
});

t.test('another key, method, path, query or header is refused', async (t) => {
  const header = signCall(SIGNER, 'origin-1', CALL, NOW);
  refused(
    t,
    /another cluster key/,
    () => verifierOf({ key: Buffer.alloc(32, 2) }).verify(received(header)),
    'key',
  );
  for (const change of [
    { method: 'GET' },
    { path: '/v1/nodes/b?x=1' },
    { path: '/v1/nodes/a?x=2' },
    { path: '/v1/nodes/a' },
    { path: '/V1/nodes/a?x=1' },
    { headers: { ...CALL.headers, 'sepia-hop': '2' } },
    { headers: { 'content-type': 'application/json' } },
    { headers: { ...CALL.headers, 'content-type': 'text/html' } },
    { headers: { ...CALL.headers, 'sepia-upstream': 'hub' } },
    { headers: { ...CALL.headers, range: 'bytes=0-1' } },
    { headers: { ...CALL.headers, 'content-range': '0-1' } },
  ]) {
    const changed = { ...CALL, ...change };
    refused(t, /another call/, () => verifierOf().verify(received(header, changed)), JSON.stringify(change));
  }
  const other = { headers: { ...CALL.headers, 'user-agent': 'another', via: 'a proxy' } };
  t.equal(
    verifierOf().verify(received(header, { ...CALL, ...other })).caller,
    'agent-1',
    'the rest may change',
  );
});

t.test('every part of the signature itself is covered', async (t) => {
  const header = signCall(SIGNER, 'origin-1', CALL, NOW);
  const tampered = {
    caller: header.replace('agent-1', 'agent-2'),
    recipient: header.replace('to=origin-1', 'to=origin-2'),
    date: header.replace(String(NOW), String(NOW + 1)),
    nonce: header.replace(/nonce=./, (text) => (text.endsWith('0') ? 'nonce=1' : 'nonce=0')),
    body: header.replace(/body=[^,]+/, `body=sha256:${'0'.repeat(64)}`),
    'body as a stream': header.replace(/body=[^,]+/, 'body=length:7'),
    'body of no known length': header.replace(/body=[^,]+/, 'body=chunked'),
  };
  for (const [name, text] of Object.entries(tampered))
    refused(t, /another call/, () => verifierOf().verify(received(text)), name);
});

t.test('a call for another member is refused', async (t) => {
  const header = signCall(SIGNER, 'origin-2', CALL, NOW);
  refused(t, /it is for origin-2/, () => verifierOf().verify(received(header)), 'recipient');
});

t.test('a date is believed up to the skew, before and after', async (t) => {
  for (const offMs of [-SIGN_SKEW_MS, SIGN_SKEW_MS]) {
    const header = signCall(SIGNER, 'origin-1', CALL, NOW + offMs);
    t.equal(verifierOf().verify(received(header)).caller, 'agent-1', `${offMs}`);
    const beyond = signCall(SIGNER, 'origin-1', CALL, NOW + offMs + Math.sign(offMs));
    refused(t, /check the clocks/, () => verifierOf().verify(received(beyond)), `${offMs} and one more`);
  }
});

t.test('a call is taken once, as long as its date is believed', async (t) => {
  let nowMs = NOW;
  const verifier = verifierOf({ nowMs: () => nowMs });
  const header = signCall(SIGNER, 'origin-1', CALL, NOW + SIGN_SKEW_MS);
  verifier.verify(received(header));
  for (const laterMs of [0, 1, NONCE_KEEP_MS - 1, NONCE_KEEP_MS]) {
    nowMs = NOW + laterMs;
    refused(t, /replayed/, () => verifier.verify(received(header)), `after ${laterMs} ms`);
  }
  nowMs = NOW + NONCE_KEEP_MS + 1;
  refused(t, /clocks/, () => verifier.verify(received(header)), 'then its date is too old');
});

t.test('a call is not taken again by the process that comes next', async (t) => {
  let nowMs = NOW;
  const begun = (): CallVerifier =>
    new CallVerifier({ clusterKey: KEY, selfId: 'origin-1', nowMs: () => nowMs, steadyMs: () => nowMs });
  const before = begun();
  const header = signCall(SIGNER, 'origin-1', CALL, NOW);
  before.verify(received(header));
  nowMs = NOW + SIGN_EARLY_MS + 1;
  const after = begun();
  for (const laterMs of [0, 1, SIGN_SKEW_MS - SIGN_EARLY_MS - 1]) {
    nowMs = NOW + SIGN_EARLY_MS + 1 + laterMs;
    refused(t, /made before this member began/, () => after.verify(received(header)), `${laterMs} ms later`);
  }
  nowMs = NOW + SIGN_EARLY_MS + 1;
  const early = signCall(SIGNER, 'origin-1', CALL, nowMs - SIGN_EARLY_MS);
  t.equal(begun().verify(received(early)).caller, 'agent-1', 'clocks may differ a little');
});

t.test('a call that is refused for its signature does not use up its nonce', async (t) => {
  const verifier = verifierOf();
  const header = signCall(SIGNER, 'origin-1', CALL, NOW);
  t.throws(() => verifier.verify(received(header, { ...CALL, method: 'GET' })));
  t.equal(verifier.verify(received(header)).caller, 'agent-1');
});

t.test('with no room for nonces calls are refused by name, and taken again later', async (t) => {
  let nowMs = NOW;
  const verifier = verifierOf({ maxNonces: 3, nowMs: () => nowMs });
  const told: RefusedWhy[] = [];
  verifier.onRefused((why) => told.push(why));
  const send = (): string => verifier.verify(received(signCall(SIGNER, 'origin-1', CALL, nowMs))).caller;
  for (let count = 0; count < 3; count++) send();
  t.equal(verifier.nonces, 3);
  t.throws(send, { code: 'MEMBER_BUSY', message: /too many signed calls/ });
  t.same(told, ['full']);
  nowMs += NONCE_KEEP_MS + 20_000;
  t.equal(send(), 'agent-1');
});

t.test('the former form is taken only where it is allowed', async (t) => {
  const old = (): string => signOld(SIGNER, { ...CALL, bodyBytes: 7 }, NOW);
  refused(t, /old-signatures/, () => verifierOf().verify(received(old())), 'by default');
  const both = verifierOf({ oldSignatures: true });
  const header = old();
  t.same(both.verify(received(header)), { caller: 'agent-1', body: undefined });
  refused(t, /replayed/, () => both.verify(received(header)), 'it is replayed');
  const longer = { ...received(old()), bodyBytes: 8 };
  refused(t, /another call/, () => both.verify(longer), 'of another length');
  const signed = { 'sepia-signature': signCall(SIGNER, 'origin-2', CALL, NOW) };
  refused(
    t,
    /it is for/,
    () => both.verify(received(old(), CALL, signed)),
    'the new form counts where it is there',
  );
  refused(
    t,
    /form 3, this member knows 2/,
    () => both.verify(received('Sepia v=3,x')),
    'a later form is named',
  );
});

t.test('no header, or anything in it, is refused and nothing else', async (t) => {
  const good = signCall(SIGNER, 'origin-1', CALL, NOW);
  const mangled = fc
    .tuple(fc.nat(good.length), fc.nat(3), fc.string({ maxLength: 3 }))
    .map(([at, cut, add]) => good.slice(0, at) + add + good.slice(at + cut));
  fc.assert(
    fc.property(fc.oneof(fc.constant(undefined), fc.string(), mangled), (header) => {
      if (header === good) return true;
      try {
        verifierOf().verify(received(header));
        return false;
      } catch (error) {
        return error instanceof CodedError && error.code === 'SIGNATURE_INVALID';
      }
    }),
    { numRuns: 3000 },
  );
  t.pass('held');
});
