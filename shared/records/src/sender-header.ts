import type { Generations, Sender } from './core/standing.ts';

const MAX_HEADER_CHARS = 16 * 1024;

/** Value of `Sepia-Standing`: generation of the member that answers, and those that it knows of others. */
export function senderHeader({ generation, known }: Omit<Sender, 'id'>): string {
  return JSON.stringify({ generation, known });
}

/** Reads {@link senderHeader}; a member of the version before sends none: generation 0, knows nothing. */
export function senderOf(id: string, header: string | readonly string[] | undefined): Sender {
  const none: Sender = { id, generation: 0, known: {} };
  if (typeof header !== 'string' || header.length > MAX_HEADER_CHARS) return none;
  try {
    const { generation, known } = JSON.parse(header) as { generation?: unknown; known?: unknown };
    if (!Number.isSafeInteger(generation) || typeof known !== 'object' || known === null) return none;
    if (!Object.values(known).every((one) => Number.isSafeInteger(one))) return none;
    return { id, generation: generation as number, known: known as Generations };
  } catch (error) {
    if (error instanceof SyntaxError) return none;
    throw error;
  }
}
