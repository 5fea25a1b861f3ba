/*
 * The native protocol, version 1, as bytes (man/fob-protocol.7). No I/O, no allocation, no policy.
 * Integers are in host byte order: an AF_UNIX socket never leaves the machine.
 */
#ifndef FOB_COMMON_WIRE_H
#define FOB_COMMON_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_VERSION = 1,
    WIRE_MAX_MESSAGE = 65536, /* bytes, header included */
    WIRE_MAX_ENTRIES = 253,   /* SCM_MAX_FD of the kernel */
    WIRE_MAX_PATH = 4095,     /* bytes */
    WIRE_HEADER_SIZE = 16,
    WIRE_ENTRY_SIZE = 12,     /* before the path */
    WIRE_RESULT_SIZE = 16,
    WIRE_HELLO_SIZE = 16,     /* body of a HELLO reply */
    WIRE_MAX_RESULTS_MESSAGE = WIRE_HEADER_SIZE + WIRE_MAX_ENTRIES * WIRE_RESULT_SIZE,
};
#define WIRE_NO_FD UINT32_C(0xFFFFFFFF)

enum wire_type { WIRE_OPEN = 1, WIRE_CHECK = 2, WIRE_LIST = 3, WIRE_HELLO = 4, WIRE_REPLY = 0x8000 };

enum wire_flag {
    WIRE_READ = 0x001, WIRE_WRITE = 0x002, WIRE_APPEND = 0x004, WIRE_CREATE = 0x008,
    WIRE_EXCLUSIVE = 0x010, WIRE_TRUNCATE = 0x020, WIRE_DIRECTORY = 0x040, WIRE_NOFOLLOW = 0x080,
    WIRE_PATH = 0x100, WIRE_NONBLOCK = 0x200, WIRE_SYNC = 0x400,
    WIRE_FLAGS = 0x7ff,
};

struct wire_header {
    uint32_t length; /* of the whole message, header included */
    uint16_t type;   /* enum wire_type; a reply has WIRE_REPLY set */
    uint16_t count;  /* entries or results that follow */
    uint32_t id;     /* the client's own, echoed */
};

struct wire_entry {
    uint32_t flags;   /* WIRE_READ ...; unknown bits kept */
    uint32_t mode;    /* permission bits for WIRE_CREATE */
    const char *path; /* path_len bytes inside the message: NOT terminated */
    uint16_t path_len;
    int error;        /* 0, or EINVAL: length 0 or above 4095, NUL inside, reserved field or padding not zero */
};

struct wire_result {
    int32_t error;     /* 0 or a positive errno */
    uint32_t rule;     /* deciding rule, 0 = default */
    uint32_t fd_index; /* in this message's SCM_RIGHTS, or WIRE_NO_FD */
};

struct wire_hello { uint32_t version, max_message, max_entries, generation; };

/* Reads entries one after the other; made by wire_decode_request(). */
struct wire_reader { const uint8_t *pos, *end; uint16_t left; };

/* How long the message is whose first 16 bytes these are (a stream's reader needs to know): 16..65536, or -EPROTO. */
int wire_message_length(const void *header);
/* Checks magic and that `length` is `len` exactly. 0 or -EPROTO. */
int wire_decode_header(const void *message, size_t len, struct wire_header *header);
/*
 * Checks a whole request before anything of it is done: header, known type, count in range for it (OPEN, CHECK:
 * 1..253; LIST, HELLO: 0), every entry whole, no trailing byte. 0 or -EPROTO (close the connection).
 */
int wire_decode_request(const void *message, size_t len, struct wire_header *header, struct wire_reader *reader);
/* 1: *entry is the next one (its own mistakes in entry->error); 0: no more. The reader must come from a checked request. */
int wire_next_entry(struct wire_reader *reader, struct wire_entry *entry);

/*
 * Encoders write at `out` (of `size` bytes) and return the bytes written, or 0 when they do not fit or the values
 * cannot stand in a message.
 */
size_t wire_encode_header(void *out, size_t size, const struct wire_header *header);
size_t wire_encode_entry(void *out, size_t size, uint32_t flags, uint32_t mode, const char *path, size_t path_len);
size_t wire_encode_result(void *out, size_t size, const struct wire_result *result);
size_t wire_encode_hello(void *out, size_t size, const struct wire_hello *hello);
/* Decoders for the client. 0 or -EPROTO (reserved field not zero, error negative, index and error contradict). */
int wire_decode_result(const void *in, size_t size, struct wire_result *result);
int wire_decode_hello(const void *in, size_t size, struct wire_hello *hello);

/*
 * Do the flags and mode of an entry make sense together (fob-protocol(7))? 0 or EINVAL. EXCLUSIVE and mode need CREATE;
 * TRUNCATE needs WRITE or APPEND; DIRECTORY stands with READ, PATH, NOFOLLOW, NONBLOCK only; PATH alone or with
 * DIRECTORY and NOFOLLOW; one of READ WRITE APPEND PATH DIRECTORY must stand.
 */
int wire_check_flags(uint32_t flags, uint32_t mode);
/* open(2) flags -> protocol flags; -EINVAL for what the protocol cannot say (O_TMPFILE, O_DIRECT, O_NOATIME, O_ASYNC,
 * unknown bits, access mode 3). O_CLOEXEC, O_NOCTTY and O_LARGEFILE are taken and mean nothing. O_DSYNC -> SYNC only with O_SYNC, else -EINVAL. */
int64_t wire_flags_from_open(int oflags);
/* Protocol flags -> open(2) flags (without O_CLOEXEC). */
int wire_flags_to_open(uint32_t flags);
/* "READ|WRITE" into out; unknown bits as 0x... at the end, none at all as "0". Returns out. */
enum { WIRE_FLAGS_TEXT = 128 };
const char *wire_flags_text(char out[WIRE_FLAGS_TEXT], uint32_t flags);

#endif
