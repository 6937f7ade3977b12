import t from 'tap';
import { buildProgram } from '../src/program.ts';

t.test('a command that is asked for is there without the others, and the same', async (t) => {
  const { commands } = await buildProgram();
  t.ok(commands.length > 20);
  for (const command of commands) {
    const { commands: some } = await buildProgram(command.name());
    t.ok(some.length < commands.length / 2, `${command.name()}: of others only those beside it`);
    const one = some.find((other) => other.name() === command.name());
    t.equal(one?.helpInformation(), command.helpInformation());
  }
});

t.test('what is no command finds all of them', async (t) => {
  const { commands } = await buildProgram();
  for (const word of ['--help', 'help', 'no-such-command', ''])
    t.equal((await buildProgram(word)).commands.length, commands.length, word);
});

t.test('what is empty is refused by its name: a variable of a script that is not set', async (t) => {
  const run = async (...args: string[]): Promise<unknown> =>
    await (await buildProgram()).parseAsync(['node', 'sepia', ...args]);
  for (const [named, ...args] of [
    ['--config', 'proxy', '--config', ''],
    ['--config', 'agent', '--config='],
    ['<dir-or-tar>', 'push', '', '127.0.0.1:1/app:v1'],
    ['<ref>', 'push', '.', ''],
    ['<file>', 'config', 'check', ''],
    ['--role', 'config', 'check', 'agent.yaml', '--role', ''],
  ] as const)
    await t.rejects(run(...args), { code: 'REQUEST_INVALID', message: `${named}: is empty` }, args.join(' '));
});
