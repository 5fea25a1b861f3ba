/*
 * A policy of any size, as admins write them: people and groups, logs, homes, projects, uploads, secrets.
 */
#include <unistd.h>

#include "bench.h"

enum { SHAPES = 8 };

static void write_rule(FILE *out, unsigned i)
{
    unsigned user = 3000 + i % 997, group = 100 + i % 61;
    switch (i % SHAPES) {
    case 0:
        fprintf(out, "allow user:%u read /srv/projects/p%u/**\n", user, i);
        break;
    case 1:
        fprintf(out, "allow group:%u read,list /var/log/app%u/*.log\n", group, i);
        break;
    case 2:
        fprintf(out, "allow user:%u,group:%u read,write /srv/shared/%u/ledger.csv\n", user, group, i);
        break;
    case 3:
        fprintf(out, "deny any write /srv/projects/p%u/{LOCKED,released}/**\n", i - 3);
        break;
    case 4:
        fprintf(out, "allow group:%u append,create /srv/uploads/box%u/*.part mode=0640\n", group, i);
        break;
    case 5:
        fprintf(out, "allow user:%u+group:%u read /etc/app%u/[a-m]*.conf\n", user, group, i);
        break;
    case 6:
        fprintf(out, "allow user:%u read,write,create /srv/homes/%u/**/notes-*.txt as=caller\n", user, i);
        break;
    default:
        fprintf(out, "deny group:%u all /srv/projects/p%u/payroll*\n", group, i - 7);
        break;
    }
}

/* Beside the tested directory stand others of its kind, with rules of the same user. */
void rules_write(FILE *out, const struct setting *setting, unsigned n)
{
    unsigned user = setting->privileged ? CLIENT_ID : (unsigned)geteuid();
    for (unsigned i = 0; i < n; i++) {
        if (i == n / 2)
            fprintf(out, "allow user:%u read \"%s/srv/reports/*/figures.csv\"\n", user, setting->dir);
        else if (i % 50 == 49)
            fprintf(out, "allow user:%u read \"%s/srv/team%u/**\"\n", user, setting->dir, i);
        else
            write_rule(out, i);
    }
}
