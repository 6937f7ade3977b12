import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';

const SERVICE = `
import { runService } from ${JSON.stringify(new URL('../src/process.ts', import.meta.url).href)};
await runService('test', async () => ({ stop: async () => undefined }));
console.log('ready');
process.stdin.on('data', () => console.log('alive'));
`;

t.test('SIGUSR1 opens no debugger and SIGUSR2 ends nothing', async (t) => {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', SERVICE], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] },
  });
  t.teardown(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const line = async (): Promise<string> => String((await once(child.stdout, 'data'))[0]).trim();
  t.equal(await line(), 'ready');
  for (const signal of ['SIGUSR1', 'SIGUSR2'] as const) {
    child.kill(signal);
    child.stdin.write('?');
    t.equal(await line(), 'alive', signal);
  }
  child.kill('SIGTERM');
  t.same(await once(child, 'close'), [0, null]);
  t.notMatch(said, /Debugger|ws:/);
});
