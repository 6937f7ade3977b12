import { z } from 'zod';
import { type Digest, isDigest } from '../digest.ts';

/** A digest in messages and files. */
export const DIGEST = z
  .string()
  .refine((text): text is Digest => isDigest(text), { message: 'is not a digest' });
