/*
 * Ends a mounted ext4 as a power cut does: no write reaches the device any more, neither data nor journal
 * (EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH). What was not synced is lost with the next unmount.
 */
#include <fcntl.h>
#include <linux/types.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int count, char **words) {
    __u32 without_flushing_the_log = 2;
    int directory = count == 2 ? open(words[1], O_RDONLY | O_DIRECTORY) : -1;
    if (directory < 0 || ioctl(directory, _IOR('X', 125, __u32), &without_flushing_the_log) != 0) {
        perror("EXT4_IOC_SHUTDOWN");
        return 1;
    }
    return 0;
}
