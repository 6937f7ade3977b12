import { buildProgram } from './program.ts';
import { lastLine } from './terminal/last-line.ts';
import { endWithOutput } from './terminal/output-end.ts';

endWithOutput(process.stdout);

try {
  const program = await buildProgram(process.argv[2]);
  await program.parseAsync(process.argv);
} catch (error) {
  const { text, exitCode } = lastLine(error);
  process.stderr.write(`sepia: ${text}\n`);
  process.exitCode = exitCode;
}
