import type { IncomingMessage } from 'node:http';
import { parseNetworks } from '@sepia/base/networks';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { clientAddresses } from '../src/client-address.ts';

const BOX = { interruptAfterTimeLimit: 2_000, markInterruptAsFailure: false };

function from(remoteAddress: string, forwarded?: string): IncomingMessage {
  const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded };
  return { socket: { remoteAddress }, headers } as unknown as IncomingMessage;
}

t.test('without trusted proxies the header is never read', async (t) => {
  t.equal(clientAddresses([])(from('127.0.0.1', '1.2.3.4')), '127.0.0.1');
  t.equal(clientAddresses(['10.0.0.0/8'])(from('11.0.0.1', '1.2.3.4')), '11.0.0.1', 'from somebody else');
});

t.test('behind trusted proxies the last hop that is none of them is the client', async (t) => {
  const of = clientAddresses(['10.0.0.0/8', '127.0.0.1', 'fd00::/8']);
  for (const [remote, forwarded, client] of [
    ['10.1.2.3', '1.2.3.4', '1.2.3.4'],
    ['::ffff:10.1.2.3', '6.6.6.6, 1.2.3.4', '1.2.3.4'],
    ['127.0.0.1', '6.6.6.6, 1.2.3.4, 10.9.9.9', '1.2.3.4'],
    ['fd00::7', '[2001:DB8::1]:4711', '2001:db8::1'],
    ['10.1.2.3', '1.2.3.4:5678', '1.2.3.4'],
    ['10.1.2.3', '10.0.0.1', '10.0.0.1'],
    ['10.1.2.3', '1.2.3.4, unknown', '10.1.2.3'],
    ['10.1.2.3', '', '10.1.2.3'],
    ['10.1.2.3', undefined, '10.1.2.3'],
  ] as const)
    t.equal(of(from(remote, forwarded)), client, `${remote} ${forwarded}`);
});

t.test('whatever a client writes before the proxy adds its address does not count', async (t) => {
  const of = clientAddresses(['10.0.0.1']);
  const told = fc.property(
    fc.string(),
    fc.ipV4(),
    (made, client) => client === '10.0.0.1' || of(from('10.0.0.1', `${made}, ${client}`)) === client,
  );
  t.doesNotThrow(() => fc.assert(told, BOX));
});

t.test('what is no address or network is refused', async (t) => {
  for (const bad of ['', 'proxy.example', '10.0.0.0/33', '::/129', '10.0.0', '10.0.0.1/', '10.0.0.1/x'])
    t.equal(parseNetworks([bad]), undefined, bad);
  t.ok(parseNetworks(['10.0.0.0/8', '::1', 'fd00::/8', '0.0.0.0/0']));
});
