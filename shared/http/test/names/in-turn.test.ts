import type { LookupAddress } from 'node:dns';
import { type LookupFunction, Socket } from 'node:net';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import type { buildConnector as Connect } from 'undici';
import { atEachAddress } from '../../src/names/in-turn.ts';

const TO: Connect.Options = {
  protocol: 'https:',
  host: 'registry.example:5000',
  hostname: 'registry.example',
  port: '5000',
};

/** Dials that are answered by hand. */
function byHand(found: readonly string[] | Error | undefined, lookupMs?: number) {
  const dialled: { readonly to: Connect.Options; readonly done: Connect.Callback }[] = [];
  const asked: string[] = [];
  const lookup: LookupFunction = (name, _, done) => {
    asked.push(name);
    if (found instanceof Error) done(found, []);
    else if (found !== undefined) done(null, found.map(addressOf));
  };
  const connector = atEachAddress((to, done) => void dialled.push({ to, done }), lookup, lookupMs);
  const dial = async (to = TO): Promise<Socket> =>
    await new Promise((resolve, reject) => {
      connector(to, (...[error, socket]) => (error === null ? resolve(socket) : reject(error)));
    });
  return { dialled, asked, dial };
}

function addressOf(address: string): LookupAddress {
  return { address, family: address.includes(':') ? 6 : 4 };
}

t.test('an address that answers late is reached although the next ones are dead', async (t) => {
  const { dialled, dial } = byHand(['fd00::1', '10.0.0.1', 'fd00::2']);
  const dialling = dial();
  await until(() => dialled.length === 3, 'each is dialled while those before are silent');
  t.same(
    dialled.map(({ to }) => to),
    ['fd00::1', '10.0.0.1', 'fd00::2'].map((hostname) => ({ ...TO, hostname })),
    'under the name that its certificate has to bear',
  );
  dialled[2]!.done(new Error('refused'), null);
  const [late, later] = [new Socket(), new Socket()];
  dialled[0]!.done(null, late);
  t.equal(await dialling, late);
  dialled[1]!.done(null, later);
  t.equal(later.destroyed, true, 'one connection is enough');
});

t.test('with none that answers the error is that of the first', async (t) => {
  const { dialled, dial } = byHand(['10.0.0.1', '10.0.0.2']);
  const dialling = dial();
  const failed = t.rejects(dialling, { message: 'first' });
  dialled[0]!.done(new Error('first'), null);
  t.equal(dialled.length, 2, 'the next is dialled at once');
  dialled[1]!.done(new Error('second'), null);
  await failed;
});

t.test('nothing is dialled before the name was found', async (t) => {
  const refused = Object.assign(new Error('no'), { code: 'ENOTFOUND' });
  await t.rejects(byHand(refused).dial(), refused);
  await t.rejects(byHand([]).dial(), { code: 'ENOTFOUND', message: 'registry.example has no address' });
  const silent = byHand(undefined, 1);
  await t.rejects(silent.dial(), { code: 'EAI_AGAIN' }, 'nor is a silent name server waited for for ever');
  t.same(silent.dialled, []);
});

t.test('an address is no name', async (t) => {
  const { dialled, asked, dial } = byHand([]);
  const socket = new Socket();
  for (const hostname of ['10.0.0.1', 'fd00::1']) {
    const dialling = dial({ ...TO, hostname });
    dialled.pop()!.done(null, socket);
    t.equal(await dialling, socket);
  }
  t.same(asked, []);
});
