/* `ipc make SIZE` makes shared memory of that size under a key, a set of semaphores, a message queue and a POSIX one,
   and uses each; `ipc find SIZE` says which of them are there. */
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define KEY 0x5eed

static int make(size_t size)
{
    int memory = shmget(KEY, size, IPC_CREAT | IPC_EXCL | 0600);
    int set = semget(KEY, 2, IPC_CREAT | 0600);
    int messages = msgget(KEY, IPC_CREAT | 0600);
    struct mq_attr limits = {.mq_maxmsg = 2, .mq_msgsize = 16};
    mqd_t queue = mq_open("/a-queue", O_CREAT | O_RDWR, 0600, &limits);
    if (memory < 0 || set < 0 || messages < 0 || queue == (mqd_t)-1)
        return perror("make"), 1;
    char *place = shmat(memory, 0, 0);
    struct sembuf up = {.sem_num = 1, .sem_op = 1};
    struct { long kind; char text[4]; } message = {1, "abc"};
    if (place == (void *)-1 || semop(set, &up, 1) || msgsnd(messages, &message, 4, 0) || mq_send(queue, "abc", 4, 0))
        return perror("use"), 1;
    strcpy(place, "abc");
    struct shmid_ds about;
    if (shmctl(memory, IPC_STAT, &about) || about.shm_segsz != size || semctl(set, 1, GETVAL) != 1)
        return perror("ask"), 1;
    /* Another's, or nobody's. */
    if (shmat(memory + 1000000, 0, 0) != (void *)-1)
        return puts("an id of others is there"), 1;
    puts("made");
    return 0;
}

static int find(size_t size)
{
    char text[16] = "";
    struct { long kind; char text[4]; } message = {0, ""};
    int memory = shmget(KEY, size, 0), messages = msgget(KEY, 0);
    mqd_t queue = mq_open("/a-queue", O_RDONLY);
    char *place = memory < 0 ? 0 : shmat(memory, 0, 0);
    printf("memory %s, semaphores %d, ", place ? place : "-", semctl(semget(KEY, 2, 0), 1, GETVAL));
    printf("message %s, ", msgrcv(messages, &message, 4, 0, 0) < 0 ? "-" : message.text);
    printf("queue %s\n", mq_receive(queue, text, 16, 0) < 0 ? "-" : text);
    return 0;
}

int main(int count, char **words)
{
    size_t size = count == 3 ? strtoul(words[2], 0, 10) : 0;
    return count != 3 ? 2 : strcmp(words[1], "make") == 0 ? make(size) : find(size);
}
