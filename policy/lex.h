/*
 * Bytes to words: one statement at a time.
 */
#ifndef FOB_POLICY_LEX_H
#define FOB_POLICY_LEX_H

#include "messages.h"

struct word {
    const char *text; /* without quotes; in the source where nothing had to be unescaped; NOT terminated */
    size_t len;
    const char *at; /* where it begins in the source */
    bool quoted;
    bool plain; /* text is the source itself: offsets in it are columns */
};

struct lexer {
    struct arena *arena;
    const struct source *source;
    struct policy_messages *messages;
    const char *pos;
    uint32_t line;      /* of pos, 1.. */
    struct word *words; /* of the statement at hand */
    size_t n_words, cap;
    uint32_t statement_line;
    const char *statement, *statement_end;
};

void lexer_init(struct lexer *lexer, struct arena *arena, const struct source *source,
                struct policy_messages *messages);
void lexer_deinit(struct lexer *lexer);
/*
 * 1: a statement, its words in lexer->words (at least one); 0: the end; -ENOMEM. Errors go to messages; a
 * statement that has one is passed over.
 */
int lexer_next(struct lexer *lexer);

#endif
