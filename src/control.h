/* control: how commands speak to the daemon of a store: STORE/control, a socket that only the store's owner can open; one line to
 * it, one line back. */
#pragma once

struct control;

struct control_server {
    char *(*answer)(void *data, char *request); /* the reply's line, which is freed; NULL: no memory */
    void (*tick)(void *data);                   /* called a few times a second, between requests */
    void (*sweep)(void *data);                  /* after requests and ticks, by another thread; may take long */
    void *data;
};

/* Threads of its own answer, one request at a time; they hold no lock. */
int control_start(struct control **ret_control, int store_fd, const struct control_server *server);
/* Waits for what is under way. NULL is allowed. */
void control_stop(struct control *control);

/* Sends a line and waits for the reply, however long it takes; caller frees. -ECONNREFUSED, -ENOENT: nobody answers there;
 * -ECONNRESET: it has died over it. */
int control_call(int store_fd, const char *request, char **ret_reply);
