import { join } from 'node:path';
import t from 'tap';
import { buildProgram } from '../../src/program.ts';

t.test('a folder of hosts.toml files that containerd does not read is named', async (t) => {
  const dir = t.testdir({
    'config.toml': 'version = 2\n',
    'document.yaml': [
      'version: 1',
      'members: [{ id: origin-1, role: origin, urls: ["http://127.0.0.1:17200"] }]',
      'upstreams: [{ name: harbor, mode: pull-through, url: "https://harbor.example" }]',
    ].join('\n'),
  });
  const files = ['--config', join(dir, 'config.toml'), '--cluster-document', join(dir, 'document.yaml')];
  const written = t.capture(process.stdout, 'write');
  const program = await buildProgram('configure');
  const args = ['configure', 'containerd', '--dry-run', ...files, '--hosts-dir', join(dir, 'certs')];
  await program.parseAsync(['node', 'sepia', ...args]);
  const text = written()
    .map(({ args: [one] }) => String(one))
    .join('');
  t.match(text, `--- ${join(dir, 'certs', 'harbor.example', 'hosts.toml')}`);
  t.match(text, `config_path is not set: containerd reads no hosts.toml`);
  t.match(text, `config_path = "${join(dir, 'certs')}"`);
});
