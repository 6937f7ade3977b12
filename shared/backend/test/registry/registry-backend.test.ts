import { silentLogger } from '@sepia/base/log';
import { UPSTREAM_SCHEMA } from '@sepia/cluster/document';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import { openTargetClient } from '@sepia/upstream/client-setup';
import { UpstreamClient } from '@sepia/upstream/upstream-client';
import t, { type Test } from 'tap';
import { RegistryBackend } from '../../src/registry/registry-backend.ts';
import { backendContract, bytesOf, contentOf, soon } from '../contract.ts';

const log = silentLogger();

function open(t: Test, url: string): RegistryBackend {
  const reach = { url, insecure: false, 'redirect-hosts': [], 'realm-hosts': [] };
  const upstream = UPSTREAM_SCHEMA.parse({ name: 'behind', mode: 'pull-through', url });
  const reader = new UpstreamClient({ upstream, log, nowMs: Date.now });
  const writer = openTargetClient(
    { env: {}, log, nowMs: Date.now, dateMs: Date.now },
    {
      name: 'behind',
      to: reach,
      caKey: 'ca',
      account: { name: 'behind', config: undefined },
      connections: 4,
    },
  );
  const backend = new RegistryBackend({ reader, writer });
  t.teardown(async () => {
    await backend.close();
    await reader.close();
  });
  return backend;
}

t.test('a registry keeps the contract', async (t) => {
  const urls = new WeakMap<object, string>();
  const at = (t: Test, url: string): RegistryBackend => {
    const backend = open(t, url);
    urls.set(backend, url);
    return backend;
  };
  await backendContract(t, {
    open: async (t) => at(t, (await TestTarget.start(t)).url),
    again: async (t, backend) => at(t, urls.get(backend)!),
    largeBytes: 5 * 1024 * 1024,
    isAlone: false,
  });
});

t.test('a registry that is away, refuses, or asks for patience is told apart', async (t) => {
  const target = await TestTarget.start(t);
  const backend = open(t, target.url);
  const content = contentOf(bytesOf(50_000));
  for (const [status, code] of [
    [403, 'UPSTREAM_DENIED'],
    [429, 'UPSTREAM_LIMITED'],
    [500, 'BACKEND_DOWN'],
  ] as const) {
    target.fault = () => ({ status, headers: { 'retry-after': '0' } });
    await t.rejects(backend.putBlob(content, soon()), { code });
  }
  target.fault = (method) => (method === 'PUT' ? { cutAfterBytes: 10_000 } : undefined);
  await t.rejects(backend.putBlob(content, soon()), { code: 'BACKEND_DOWN' });
  target.fault = () => undefined;
  t.equal(await backend.putBlob(content, soon()), 'written');
  const { digest } = content;
  await t.rejects(backend.deleteBlob({ digest }, soon()), { code: 'METHOD_UNSUPPORTED' }, 'no repository');
  t.ok(await backend.headBlob(content, soon()), 'nothing is gone');
  target.fault = () => ({ cutAfterBytes: 10_000 });
  const { body } = await backend.getBlob(content, soon());
  await t.rejects(
    async () => {
      for await (const _ of body.lent());
    },
    { code: 'BACKEND_DOWN' },
  );
  await target.down();
  await t.rejects(backend.headBlob(content, soon()), { code: 'BACKEND_DOWN' });
});
