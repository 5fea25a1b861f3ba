/*
 * A descriptor-leak check around a test: cmocka_unit_test_setup_teardown(test, leak_setup, leak_teardown).
 */
#ifndef FOB_TESTS_LEAK_H
#define FOB_TESTS_LEAK_H

/* Remembers how many descriptors are open. *state is left alone. */
int leak_setup(void **state);
/* Fails the test, and lists what is open, when there are more or fewer now. */
int leak_teardown(void **state);

#endif
