#!/bin/bash
# First process of a guest of User Mode Linux, whose root is the one of this machine, for reading only: an NFS 4.2 server
# and two nodes that mount its folder, each with a network, a host name and a boot of its own. Then scenario.py runs.
# From the kernel's command line: nfs_out, the folder of this machine that may be written; nfs_python; nfs_part.
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt/home TMPDIR=/mnt/tmp
here=$(dirname "$(readlink -f "$0")")
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/shm
for folder in /dev/shm /run /mnt /var/lib/nfs; do mount -t tmpfs tmpfs $folder; done
mkdir -p /mnt/{out,home,tmp,export,runs} /run/modules/lib /run/netns /run/rpc_pipefs /var/lib/nfs/{sm,v4recovery}
touch /var/lib/nfs/{etab,rmtab}
mount -t hostfs hostfs /mnt/out -o "$nfs_out"
exec >/mnt/out/guest.log 2>&1

ln -s /usr/lib/uml/modules /run/modules/lib/modules
for module in veth nfsd nfsv4; do modprobe -d /run/modules $module || exit 1; done
hostname server
ip link set lo up
mount -t nfsd nfsd /proc/fs/nfsd
echo 15 >/proc/fs/nfsd/nfsv4leasetime
echo 15 >/proc/fs/nfsd/nfsv4gracetime
rpcbind -w
exportfs -o rw,no_root_squash,fsid=0,insecure,no_subtree_check '*:/mnt/export'
rpc.mountd
rpc.nfsd --no-nfs-version 3 4

for number in 1 2; do
  ip netns add node$number
  ip link add up$number type veth peer name eth0 netns node$number
  ip address add 10.0.$number.1/24 dev up$number
  ip link set up$number up
  ip -n node$number address add 10.0.$number.2/24 dev eth0
  ip -n node$number link set eth0 up
  ip -n node$number link set lo up
  cat /proc/sys/kernel/random/uuid >/run/boot$number
  ip netns exec node$number unshare --mount --uts --pid --fork --mount-proc sh -c "
    hostname node$number
    mount --bind /run/boot$number /proc/sys/kernel/random/boot_id
    mount -t nfs4 -o ${nfs_options:-acregmax=3,acdirmax=3} 10.0.$number.1:/ /mnt/runs && touch /run/ready$number
    exec sleep infinity" &
  shells[number]=$!
done
for _ in $(seq 100); do [ -e /run/ready1 ] && [ -e /run/ready2 ] && break; sleep 0.2; done
for number in 1 2; do pgrep --parent "${shells[number]}" >/run/node$number.pid; done
cd /mnt/home && "$nfs_python" "$here/scenario.py" "${nfs_part:-all}"
echo "the scenario ended with $?"
sync
poweroff -f
