import { buildProgram } from './program.ts';
import { lastLine } from './terminal/last-line.ts';

try {
  await buildProgram().parseAsync(process.argv);
} catch (error) {
  const { text, exitCode } = lastLine(error);
  process.stderr.write(`sepia: ${text}\n`);
  process.exitCode = exitCode;
}
