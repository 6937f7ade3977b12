import type { TLSSocket } from 'node:tls';
import { silentLogger } from '@sepia/base/log';
import { HttpListener } from '@sepia/http/listener';
import { memberEncryption } from '@sepia/http/tls/cluster-encryption';
import { listenerTls } from '@sepia/http/tls/listener-tls';
import t from 'tap';
import { openTargetClient } from '../src/client-setup.ts';
import { soon } from './client-fixture.ts';

const KEY = Buffer.alloc(32, 7);
const OWN = { log: silentLogger(), nowMs: () => performance.now(), dateMs: () => Date.now(), env: {} };

t.test('a proxy of the cluster is written to as the policy of the cluster says', async (t) => {
  for (const policy of ['off', 'accept', 'on', 'require'] as const) {
    const encryption = memberEncryption(policy, KEY);
    const came: boolean[] = [];
    const tls = listenerTls(OWN, { key: 'listen', encryption });
    const listener = await HttpListener.start(
      (req, res) => {
        came.push((req.socket as TLSSocket).encrypted === true);
        res.writeHead(404).end();
      },
      '127.0.0.1:0',
      'listen',
      { tls },
    );
    t.teardown(() => listener.stop(0));
    const client = openTargetClient(OWN, {
      name: 'local',
      to: { url: listener.url, insecure: false, 'redirect-hosts': [], 'realm-hosts': [] },
      caKey: 'upstreams.local.ca',
      account: { name: 'local', config: undefined },
      connections: 2,
      ns: 'local',
      encryption,
    });
    t.equal(await client.headManifest('team/app', '1', soon()), undefined);
    await client.close();
    t.ok(came.length > 0);
    t.ok(
      came.every((one) => one === (policy === 'on' || policy === 'require')),
      policy,
    );
  }
});
