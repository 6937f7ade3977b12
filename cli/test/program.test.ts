import type { Command } from 'commander';
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

t.test('the help of every command fits its terminal, and 80 columns where there is none', async (t) => {
  const program = await buildProgram();
  const all = (command: Command): Command[] => [command, ...command.commands.flatMap(all)];
  for (const columns of [undefined, 80, 120])
    for (const command of all(program)) {
      const text = helpOf(command, columns);
      const wide = text.split('\n').filter((line) => line.length > (columns ?? 80));
      t.same(wide, [], `${command.name()} at ${columns}`);
      t.notMatch(text, /\n\n\n|default: (false|\[\])\)/, command.name());
    }
  t.match(helpOf(program, undefined), /\n\nExit codes: 0 success; .*\n.*\n.*141 the reader/s);
  const simulate = program.commands.find((command) => command.name() === 'simulate')!;
  t.match(helpOf(simulate, 80), /\n {2}l12 {4}1,000 nodes [^\n]*\n {9}\S/, 'below its name nothing begins');
  t.match(helpOf(simulate, 80, true), /\nScenarios /, 'after an error too');
});

function helpOf(command: Command, columns: number | undefined, error = false): string {
  let text = '';
  const write = (part: string): void => {
    text += part;
  };
  const width = (): number | undefined => columns;
  const widths = { getOutHelpWidth: width, getErrHelpWidth: width } as { getOutHelpWidth(): number };
  command.configureOutput({ writeOut: write, writeErr: write, ...widths });
  command.outputHelp({ error });
  return text;
}
