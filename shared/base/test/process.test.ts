import { once } from 'node:events';
import t from 'tap';
import { sourceUrl, startProgram } from './support/child-service.ts';

const SERVICE = `
import { runService } from ${sourceUrl('process.ts')};
await runService('test', async () => ({ stop: async () => undefined }));
console.log('ready');
process.stdin.on('data', () => console.log('alive'));
`;

t.test('SIGUSR1 opens no debugger and SIGUSR2 ends nothing', async (t) => {
  const { child, said } = startProgram(t, SERVICE);
  const line = async (): Promise<string> => String((await once(child.stdout, 'data'))[0]).trim();
  t.equal(await line(), 'ready');
  for (const signal of ['SIGUSR1', 'SIGUSR2'] as const) {
    child.kill(signal);
    child.stdin.write('?');
    t.equal(await line(), 'alive', signal);
  }
  child.kill('SIGTERM');
  t.same(await once(child, 'close'), [0, null]);
  t.notMatch(said(), /Debugger|ws:/);
});

t.test('what cannot stop in order says so in a line each, with a stack only for a bug', async (t) => {
  const service = (thrown: string): string => `
import { runService } from ${sourceUrl('process.ts')};
import { StopStack } from ${sourceUrl('lifecycle.ts')};
const stops = new StopStack();
stops.push('socket', () => { throw ${thrown}; });
stops.push('records', () => { throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' }); });
await runService('test', async () => ({ stop: () => stops.stop() }));
console.log('ready');
setInterval(() => {}, 1_000);
`;
  const ends = async (thrown: string): Promise<string> => {
    const { child, said } = startProgram(t, service(thrown));
    await once(child.stdout, 'data');
    child.kill('SIGTERM');
    t.same(await once(child, 'close'), [1, null]);
    return said();
  };
  t.equal(
    await ends("new Error('EIO: i/o error')"),
    'sepia test: stop of records failed: ENOSPC: no space left on device\nsepia test: stop of socket failed: EIO: i/o error\n',
  );
  t.match(
    await ends("new TypeError('x is no function')"),
    /stop of socket failed: TypeError: x is no function\n +at /,
  );
});

t.test('work that the signal cuts is told of, not as a stop that failed', async (t) => {
  const service = `
import { runService } from ${sourceUrl('process.ts')};
import { CodedError } from ${sourceUrl('errors.ts')};
const cut = (code) => new CodedError(code, { message: 'before the table' });
await runService('test', async () => ({ stop: async () => { throw cut(process.env.CODE); } }));
console.log('ready');
setInterval(() => {}, 1_000);
`;
  for (const [code, text] of [
    ['DRAINING', 'sepia test: DRAINING: before the table\n'],
    ['DISK_FULL', 'sepia test: stop failed: DISK_FULL: before the table\n'],
  ] as const) {
    const { child, said } = startProgram(t, service.replace('process.env.CODE', `'${code}'`));
    await once(child.stdout, 'data');
    child.kill('SIGTERM');
    t.same(await once(child, 'close'), [1, null]);
    t.equal(said(), text);
  }
});

t.test('a start that the system refuses is a line that says what to do; a bug has its stack', async (t) => {
  const service = (thrown: string): string => `
import { runService } from ${sourceUrl('process.ts')};
import { CodedError } from ${sourceUrl('errors.ts')};
await runService('test', async () => { throw ${thrown}; });
`;
  const ends = async (thrown: string): Promise<[number, string]> => {
    const { child, said } = startProgram(t, service(thrown));
    const [code] = (await once(child, 'close')) as [number];
    return [code, said()];
  };
  const system = (code: string): string =>
    `Object.assign(new Error("${code}: it is so, open '/d/v1/id'"), { code: '${code}', syscall: 'open', errno: -1 })`;
  t.same(await ends(system('EACCES')), [
    2,
    "sepia test: START_FAILED: EACCES: it is so, open '/d/v1/id'; give it to the user that this runs as (chown), with its folder\n",
  ]);
  t.same(await ends(system('ENAMETOOLONG')), [
    2,
    "sepia test: START_FAILED: ENAMETOOLONG: it is so, open '/d/v1/id'\n",
  ]);
  t.same(
    await ends(
      "new CodedError('DISK_CORRUPT', { message: 'disk fails: EROFS', detail: { path: '/d/run' } })",
    ),
    [2, 'sepia test: DISK_CORRUPT: disk fails: EROFS (/d/run)\n'],
  );
  const [code, said] = await ends("new TypeError('x is no function')");
  t.equal(code, 1);
  t.match(said, /^sepia test: TypeError: x is no function\n +at /);
});

t.test(
  'who can open no file more goes on: nothing that it does by itself ends it, its supervisor is there',
  async (t) => {
    const { child, said } = startProgram(
      t,
      `
import { openSync } from 'node:fs';
const polls = [];
const every = setInterval;
globalThis.setInterval = (poll, ms) => (polls.push(poll), every(() => undefined, ms));
process.env.SEPIA_SUPERVISOR = String(process.ppid);
const { runService } = await import(${sourceUrl('process.ts')});
await runService('test', async () => ({ stop: async () => undefined }));
try {
  for (;;) openSync('/dev/null');
} catch (error) {
  if (error.code !== 'EMFILE') throw error;
}
process._rawDebug('polls', polls.length);
for (const poll of polls) poll();
setImmediate(() => setImmediate(() => process.reallyExit(7)));
`,
      { openFiles: 96 },
    );
    const [code] = await once(child, 'exit');
    t.equal(code, 7, said());
    t.match(said(), /^polls [2-9]/, 'that for the supervisor, and that for memory');
  },
);
