#include "decode.h"

#include "show.h"
#include "../../common/apue.h"

static void decode_request(FILE *out, const char *bytes, size_t len, size_t n_fds)
{
    struct apue_request request;
    apue_parse(bytes, len, &request);
    if (request.path == NULL) {
        fputs("    request: ", out);
        show_text(out, bytes, len);
        fputc('\n', out);
        show_malformed(out, "it is not: open PATHNAME OFLAG");
    } else if (request.oflag < 0) {
        fputs("    open ", out);
        show_text(out, request.path, request.path_len);
        fputc('\n', out);
        show_malformed(out, "the last word is no decimal number");
    } else {
        fprintf(out, "    open, oflag %d ", request.oflag);
        show_open_flags(out, request.oflag);
        fputs(", path ", out);
        show_text(out, request.path, request.path_len);
        fputc('\n', out);
    }
    if (n_fds > 0)
        show_malformed(out, "a request with descriptors (%zu)", n_fds);
}

static void decode_reply(FILE *out, const uint8_t *bytes, size_t len, size_t n_fds)
{
    enum { TRAILER = 2 };
    unsigned status = bytes[len - 1];
    size_t text = len - TRAILER;
    fprintf(out, "    reply, status %u ", status);
    if (status == 0)
        fputs("ok", out);
    else
        show_error(out, (int)status);
    if (text > 0) {
        fputs(", text ", out);
        show_text(out, bytes, text);
    }
    fputc('\n', out);
    if (status == 0 && text > 0)
        show_malformed(out, "success with a text");
    if (status != 0 && (text == 0 || bytes[text - 1] != '\n'))
        show_malformed(out, "an error's text must end in a newline");
    if (status == 0 && n_fds != 1)
        show_malformed(out, "success has one descriptor, not %zu", n_fds);
    if (status != 0 && n_fds > 0)
        show_malformed(out, "an error with descriptors (%zu)", n_fds);
}

void decode_apue(FILE *out, enum side from, const uint8_t *message, size_t len, size_t n_fds)
{
    if (from == CLIENT && len > 0)
        decode_request(out, (const char *)message, len - 1, n_fds);
    else if (from == BROKER && len > 1)
        decode_reply(out, message, len, n_fds);
}
