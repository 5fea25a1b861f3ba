#include "rules.h"

#include "place.h"

void rules_write_own(FILE *out, const char *base)
{
    fprintf(out, "allow user:%d read %s/data/**\n", CLIENT_UID, base);
    fprintf(out, "allow any read %s/open/**\n", base);
    fprintf(out, "allow any read %s/own/** as=caller\n", base);
}

static void write_other(FILE *out, unsigned i, const char *base)
{
    switch (i % 4) {
    case 0:
        fprintf(out, "allow user:%u read %s/set%u/**\n", 3000 + i % 1000, base, i);
        break;
    case 1:
        fprintf(out, "allow group:%u read,list %s/log/app%u/*.log\n", 100 + i % 50, base, i);
        break;
    case 2:
        fprintf(out, "allow user:%u,group:%u read,write %s/home/%u/file%u\n", 3000 + i % 1000, i % 100, base,
                i % 5000, i);
        break;
    default:
        fprintf(out, "deny any write %s/set%u/locked-*\n", base, i);
    }
}

void rules_write(FILE *out, unsigned from, unsigned to, const char *base)
{
    for (unsigned i = from; i < to; i++)
        write_other(out, i, base);
}
