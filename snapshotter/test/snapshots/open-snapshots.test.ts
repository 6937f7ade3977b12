import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, credentials, loadPackageDefinition, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { silentLogger } from '@sepia/base/log';
import { Metrics } from '@sepia/base/metrics';
import t from 'tap';
import { Grants } from '../../src/snapshots/core/grants.ts';
import { openSnapshots } from '../../src/snapshots/open-snapshots.ts';

const PROTO = join(import.meta.dirname, '../../src/snapshots/snapshots.proto');

type Prepare = (request: object, done: (error: ServiceError | null, value: object) => void) => void;

t.test(
  'a data folder that is a link: snapshots lie where the kernel says that they are mounted',
  async (t) => {
    const dir = realpathSync(mkdtempSync(join(tmpdir(), 's-')));
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    mkdirSync(join(dir, 'disk'));
    symlinkSync(join(dir, 'disk'), join(dir, 'data'));
    const socket = join(dir, 's.sock');
    const opened = await openSnapshots({
      config: { data: join(dir, 'data'), mount: dir, 'snapshots-socket': socket },
      layers: { byDiffId: () => undefined } as never,
      grants: new Grants(),
      fileOf: () => '',
      metrics: new Metrics('snapshotter', 'node'),
      log: silentLogger(),
    });
    t.teardown(() => opened?.stop());
    const loaded = loadPackageDefinition(loadSync(PROTO, { keepCase: true })) as never;
    const Service = loaded['containerd']['services']['snapshots']['v1']['Snapshots'] as typeof Client;
    const client = new Service(`unix:${socket}`, credentials.createInsecure());
    t.teardown(() => client.close());
    const call = (client as unknown as { Prepare: Prepare }).Prepare.bind(client);
    const answer = await new Promise((resolve, reject) =>
      call({ key: 'run', parent: '', labels: {} }, (error, value) =>
        error === null ? resolve(value) : reject(error),
      ),
    );
    t.match(answer, { mounts: [{ source: join(dir, 'disk/snapshots/tree/1/fs') }] });
  },
);

t.test('a data folder that leads to one that no overlay can name', async (t) => {
  const dir = t.testdir({ 'disk:1': {} });
  symlinkSync(join(dir, 'disk:1'), join(dir, 'data'));
  const config = { data: join(dir, 'data'), mount: dir, 'snapshots-socket': join(dir, 's.sock') };
  const parts = { config } as unknown as Parameters<typeof openSnapshots>[0];
  await t.rejects(openSnapshots(parts), {
    code: 'CONFIG_INVALID',
    message: /^data: .*data leads to .*disk:1, which has a colon/,
  });
});
