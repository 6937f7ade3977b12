import t from 'tap';
import { isOwnHost } from '../src/own-host.ts';

const KNOWN = ['registry.example', 'mirror.example:5000', 'docker.io'];

t.test('addresses, names of this machine and known hosts are its own', async (t) => {
  for (const host of [
    '127.0.0.1:17000',
    '127.0.0.1',
    '[::1]:17000',
    '[::1]',
    '10.1.2.3:17000',
    'localhost:17000',
    'LOCALHOST',
    'node.localhost:17000',
    'agent-1:17000',
    'registry.example',
    'Registry.Example:17000',
    'registry.example.',
    'mirror.example:5000',
    'mirror.example:17000',
    'docker.io',
    '',
  ])
    t.ok(isOwnHost(host, KNOWN), host);
});

t.test('a name that anybody may have pointed here is not', async (t) => {
  for (const host of [
    'evil.example',
    'evil.example:17000',
    'registry.example.evil.test',
    'evilregistry.example',
    '127.0.0.1.evil.test:17000',
    'localhost.evil.test',
    'user@127.0.0.1.evil.test',
    'a b',
    'x@y',
  ])
    t.notOk(isOwnHost(host, KNOWN), host);
});
