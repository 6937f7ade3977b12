import { join } from 'node:path';
import t, { type Test } from 'tap';
import { buildProgram } from '../../src/program.ts';

t.test('a folder of hosts.toml files that containerd does not read is named', async (t) => {
  const { text, certs } = await dryRun(t, 'mode: pull-through, url: "https://harbor.example"');
  t.match(text, `--- ${join(certs, 'harbor.example', 'hosts.toml')}`);
  t.match(text, `config_path is not set: containerd reads no hosts.toml`);
  t.match(text, `config_path = "${certs}"`);
});

t.test(
  'a cluster without a registry behind it: how its images are pulled, and no word of files',
  async (t) => {
    const { text } = await dryRun(t, 'mode: none');
    t.equal(
      text,
      "nothing to write\nno registry stands behind this cluster; pull by the agent's own name: 127.0.0.1:17000/REPOSITORY:TAG\n",
    );
  },
);

/** What `configure containerd --dry-run` says, with one upstream. */
async function dryRun(t: Test, upstream: string): Promise<{ text: string; certs: string }> {
  const dir = t.testdir({
    'config.toml': 'version = 2\n',
    'document.yaml': [
      'version: 1',
      'members: [{ id: origin-1, role: origin, urls: ["http://127.0.0.1:17200"] }]',
      `upstreams: [{ name: harbor, ${upstream} }]`,
    ].join('\n'),
  });
  const certs = join(dir, 'certs');
  const files = ['--config', join(dir, 'config.toml'), '--cluster-document', join(dir, 'document.yaml')];
  const written = t.capture(process.stdout, 'write');
  const program = await buildProgram('configure');
  await program.parseAsync([
    ...['node', 'sepia', 'configure', 'containerd', '--dry-run'],
    ...[...files, '--hosts-dir', certs],
  ]);
  const texts = written().map(({ args: [one] }) => String(one));
  return { text: texts.join(''), certs };
}
