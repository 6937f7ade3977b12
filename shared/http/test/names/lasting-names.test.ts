import type { LookupAddress } from 'node:dns';
import t, { type Test } from 'tap';
import { LastingNames } from '../../src/names/lasting-names.ts';

const OLD = [{ address: '10.0.0.1', family: 4 }];
const NEW = [
  { address: 'fd00::2', family: 6 },
  { address: '10.0.0.2', family: 4 },
];
const HOUR_MS = 3_600_000;

type Done = (error: NodeJS.ErrnoException | null, found: readonly LookupAddress[]) => void;

/** Names that are looked up by hand. */
function byHand(options: { readonly believesNone?: boolean; readonly keptMs?: number } = {}) {
  const state = { nowMs: 0, told: [] as object[] };
  const asked: { readonly name: string; readonly done: Done }[] = [];
  const names = new LastingNames({
    nowMs: () => state.nowMs,
    ...options,
    log: { warn: (facts) => void state.told.push(facts) },
    resolve: (name, done) => void asked.push({ name, done }),
  });
  const find = async (name: string, options = {}): Promise<unknown> =>
    await new Promise((resolve) =>
      names.lookup(name, { all: true, ...options }, (error, found, family) =>
        resolve(error?.code ?? (family === undefined ? found : [found, family])),
      ),
    );
  const fails = (code: string): NodeJS.ErrnoException => Object.assign(new Error(code), { code });
  return { state, asked, find, fails };
}

/** Addresses of a name that were found once. */
async function known(t: Test) {
  const made = byHand();
  const first = made.find('a');
  made.asked.shift()!.done(null, OLD);
  t.same(await first, OLD);
  return made;
}

t.test('a name that leads elsewhere now does so at once', async (t) => {
  const { asked, find, state } = await known(t);
  const next = find('a');
  asked.shift()!.done(null, NEW);
  t.same(await next, NEW);
  const one = find('a', { all: false });
  const four = find('a', { all: false, family: 4 });
  const six = find('a', { family: 'IPv6' });
  const none = find('b', { family: 6 });
  asked.shift()!.done(null, NEW);
  asked.shift()!.done(null, OLD);
  t.same(await one, ['fd00::2', 6]);
  t.same(await four, ['10.0.0.2', 4]);
  t.same(await six, NEW.slice(0, 1));
  t.equal(await none, 'ENOTFOUND');
  t.same(asked, [], 'who asks for one name at once asks once');
  t.same(state.told, []);
});

t.test('while it cannot be looked up the addresses found last are given, for an hour', async (t) => {
  const { asked, find, fails, state } = await known(t);
  for (const code of ['ENOTFOUND', 'EAI_AGAIN']) {
    const next = find('a');
    asked.shift()!.done(fails(code), []);
    t.same(await next, OLD);
  }
  t.same(state.told, [{ name: 'a', reason: 'ENOTFOUND', leftOut: 0 }], 'it is told once');
  state.nowMs = HOUR_MS;
  const late = find('a');
  asked.shift()!.done(fails('ENOTFOUND'), []);
  t.equal(await late, 'ENOTFOUND');
});

t.test('a name server that is silent is not waited for where addresses are known', async (t) => {
  const { asked, find, fails, state } = await known(t);
  t.same(await find('a'), OLD);
  t.same(await find('a'), OLD);
  t.equal(asked.length, 1, 'it is asked once for all');
  t.same(state.told, [{ name: 'a', reason: 'slow', leftOut: 0 }]);
  asked.shift()!.done(fails('EAI_AGAIN'), []);
  const next = find('a');
  asked.shift()!.done(null, NEW);
  t.same(await next, NEW);
});

t.test('of a name that was never found the error is told', async (t) => {
  const { asked, find, fails } = byHand();
  const first = find('a');
  asked.shift()!.done(fails('EAI_AGAIN'), []);
  t.equal(await first, 'EAI_AGAIN');
});

t.test('who believes that there is no such name forgets its addresses', async (t) => {
  const made = byHand({ believesNone: true, keptMs: 10 });
  const { asked, find, fails, state } = made;
  const ask = async (error: NodeJS.ErrnoException | null): Promise<unknown> => {
    const next = find('a');
    asked.shift()!.done(error, error === null ? OLD : []);
    return await next;
  };
  t.same(await ask(null), OLD);
  t.same(await ask(fails('EAI_AGAIN')), OLD);
  t.equal(await ask(fails('ENOTFOUND')), 'ENOTFOUND');
  t.equal(await ask(fails('EAI_AGAIN')), 'EAI_AGAIN');
  t.same(await ask(null), OLD);
  state.nowMs = 10;
  t.equal(await ask(fails('EAI_AGAIN')), 'EAI_AGAIN', 'and they are kept for as long as was said');
});

t.test("the system's own names", async (t) => {
  const names = new LastingNames({ nowMs: () => 0 });
  const found = await new Promise<unknown>((resolve) =>
    names.lookup('localhost', { all: true }, (error, addresses) => resolve(error ?? addresses)),
  );
  t.ok(Array.isArray(found) && found.length > 0, String(found));
});
