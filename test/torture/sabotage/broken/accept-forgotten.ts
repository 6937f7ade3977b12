import * as shipped from '@sepia/records/register/register';

export * from '@sepia/records/register/register';

/** An acceptor that says it accepted, and keeps nothing. */
export const acceptorStep: typeof shipped.acceptorStep = (state, request) => {
  const { next, reply } = shipped.acceptorStep(state, request);
  return { next: request.type === 'accept' ? state : next, reply };
};
