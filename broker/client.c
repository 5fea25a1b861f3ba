#include "client.h"

#include <stdlib.h>
#include <string.h>

#include "../common/util.h"

static size_t bucket_of(uid_t uid)
{
    return (uid * 2654435761u >> 16) % CLIENT_BUCKETS;
}

static bool client_is(const struct client *client, const struct peer *peer)
{
    const struct policy_subject *s = &client->subject;
    return s->uid == peer->uid && s->groups_unknown == peer->groups_unknown && s->gid == peer->gid &&
           s->n_groups == peer->n_groups &&
           (peer->n_groups == 0 ||
            memcmp(s->groups, peer->groups, peer->n_groups * sizeof *peer->groups) == 0);
}

static struct user *user_ref(struct clients *clients, uid_t uid)
{
    struct user **head = &clients->by_uid[bucket_of(uid)];
    for (struct user *user = *head; user; user = user->next)
        if (user->uid == uid) {
            user->refs++;
            return user;
        }
    struct user *user = mem_zalloc(1, sizeof *user);
    if (!user)
        return NULL;
    *user = (struct user){ .next = *head, .uid = uid, .refs = 1 };
    return *head = user;
}

static void user_unref(struct clients *clients, struct user *user)
{
    if (!user || --user->refs)
        return;
    struct user **link = &clients->by_uid[bucket_of(user->uid)];
    while (*link != user)
        link = &(*link)->next;
    *link = user->next;
    free(user);
}

static void client_free(struct clients *clients, struct client *client)
{
    user_unref(clients, client->user);
    free((void *)client->subject.groups);
    free(client);
}

static struct client *client_new(struct clients *clients, const struct peer *peer)
{
    struct client *client = mem_zalloc(1, sizeof *client);
    gid_t *groups = mem_zalloc(peer->n_groups + 1, sizeof *groups);
    if (!client || !groups) {
        free(client);
        free(groups);
        return NULL;
    }
    if (peer->n_groups)
        memcpy(groups, peer->groups, peer->n_groups * sizeof *groups);
    client->refs = 1;
    client->subject = (struct policy_subject){
        .uid = peer->uid,
        .gid = peer->gid,
        .groups = groups,
        .n_groups = peer->n_groups,
        .groups_unknown = peer->groups_unknown,
        .user = policy_find_user(clients->policy, peer->uid),
    };
    client->narrows = clients->narrow && policy_narrows(clients->policy, &client->subject);
    client->user = user_ref(clients, peer->uid);
    if (!client->user) {
        client_free(clients, client);
        return NULL;
    }
    return client;
}

struct client *client_ref(struct clients *clients, const struct peer *peer)
{
    struct client **head = &clients->by_identity[bucket_of(peer->uid)];
    for (struct client *client = *head; client; client = client->next)
        if (client_is(client, peer)) {
            client->refs++;
            return client;
        }
    struct client *client = client_new(clients, peer);
    if (!client)
        return NULL;
    client->next = *head;
    return *head = client;
}

void client_unref(struct clients *clients, struct client *client)
{
    if (--client->refs)
        return;
    struct client **link = &clients->by_identity[bucket_of(client->subject.uid)];
    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    client_free(clients, client);
}
