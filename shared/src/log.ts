import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** A process's logger: JSON lines on standard output, `service` and `member` on each. */
export function createLogger(service: string, member: string, level: LogLevel): Logger {
  return pino({
    level,
    base: { service, member },
    formatters: { level: (label) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: { paths: ['*.authorization', '*.password', '*.headers.authorization'], censor: '[secret]' },
  });
}

/** A logger that says nothing, for tests and tools. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
