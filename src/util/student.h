/* Student's t distribution. */
#ifndef COLLIMATE_UTIL_STUDENT_H
#define COLLIMATE_UTIL_STUDENT_H

/* t with P(T <= t) = p, 0.5 <= p < 1, for `freedom` > 0 degrees of freedom, whole or not; beyond a million
 * it is the normal distribution's to six digits. Relative error about 1e-12. */
double student_quantile(double p, double freedom);

#endif
