# What a machine is, before anything of Stead's is on it. Reads only. Each line: a name, then words.
# Run as root. POSIX shell; a question that hangs is given up.
LC_ALL=C
export LC_ALL
say() { printf 'stead-look %s\n' "$*"; }
brief() { timeout 5 "$@" 2>/dev/null; }
. /etc/os-release 2>/dev/null
say system "${ID:-unknown} ${VERSION_ID:-unknown} ${PRETTY_NAME:-$(uname -s)}"
say kernel "$(uname -r)"
say machine "$(uname -m)"
say systemd "$(systemctl --version 2>/dev/null | { read -r _ version _; echo "${version:-0}"; })"
[ -d /run/systemd/system ] && say booted yes
say root "$(awk '$2 == "/" { kind = $3; split($4, how, ","); mode = how[1] } END { print kind, mode }' /proc/mounts)"
awk '$2 == "/var" || $2 == "/var/lib" { print "stead-look mounted " $2 }' /proc/mounts
say disk "$(df -Pk /var/lib 2>/dev/null | awk 'NR == 2 { print $4 }')"
say memory "$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)"
say clock "$(date +%s)"
[ "$(brief systemctl is-active ssh.socket)" = active ] && say ssh-socket yes
brief sshd -T | awk '$1 == "port" { print "stead-look ssh-port " $2 }'
[ -r /etc/ssh/ssh_host_ed25519_key.pub ] && say host-key "$(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)"
brief getent hosts example.com >/dev/null && say dns yes
brief ip -o addr show scope global | awk '{ print "stead-look address " $4 }'
brief ip route show default | awk '{ print "stead-look route IPv4 " $0 }'
brief ip -6 route show default | awk '{ print "stead-look route IPv6 " $0 }'
brief ss -Hltnp | awk '{ who = "-"; if (match($0, /\(\("[^"]*"/)) who = substr($0, RSTART + 3, RLENGTH - 4); print "stead-look listens " $4 " " who }' | sort -u
brief nft list tables | awk '{ print "stead-look firewall nftables " $2 " " $3 }'
brief ufw status | awk '$1 == "Status:" { print "stead-look firewall ufw " $2 }'
[ "$(brief iptables -S | grep -c '^-A')" -gt 0 ] 2>/dev/null && say firewall iptables rules
for name in nginx apache2 postgresql docker caddy; do
    state=$(brief systemctl is-active "$name.service")
    [ "$state" = active ] && say runs "$name"
done
[ -e /var/lib/stead/confirmed ] && say stead yes
say end
