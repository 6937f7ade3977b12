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
