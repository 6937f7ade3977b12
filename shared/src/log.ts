import { type DestinationStream, type Logger, pino } from 'pino';

export type { Logger } from 'pino';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** A process's logger: JSON lines on standard output, or to `sink`; `service` and `member` on each. */
export function createLogger(
  service: string,
  member: string,
  level: LogLevel,
  sink: DestinationStream = pino.destination(1),
): Logger {
  const options = {
    level,
    base: { service, member },
    formatters: { level: (label: string) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: { paths: ['*.authorization', '*.password', '*.headers.authorization'], censor: '[secret]' },
  };
  return pino(options, sink);
}

/** A logger that says nothing, for tests and tools. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
