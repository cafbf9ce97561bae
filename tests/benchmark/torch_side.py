"""PyTorch's side of bench.py: the same tasks as network_benchmark.cpp, in PyTorch's fastest layout.

Reads one task a line on standard input and answers with its milliseconds. The first line of output
says which PyTorch this is.
"""
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.fc = nn.Sequential(nn.Conv2d(channels, channels // 16, 1, bias=False), nn.ReLU(),
                                nn.Conv2d(channels // 16, channels, 1, bias=False))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False),
                                            nn.BatchNorm2d(channels))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y = y * torch.sigmoid(self.fc(F.adaptive_avg_pool2d(y, 1)) +
                              self.fc(F.adaptive_max_pool2d(y, 1)))
        pooled = torch.cat([y.mean(1, keepdim=True), y.max(1, keepdim=True)[0]], 1)
        y = y * torch.sigmoid(self.spatial(pooled))
        return F.relu(y + shortcut, inplace=True)


class FerNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64),
                                  nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
        self.layers = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1), Block(64, 128, 2),
                                    Block(128, 128, 1), Block(128, 256, 2), Block(256, 256, 1))
        self.patches = nn.Sequential(
            nn.Conv2d(256, 256, 4, 4, 1, groups=256), nn.ReLU(), nn.Conv2d(256, 256, 1), nn.ReLU(),
            nn.Conv2d(256, 256, 2, 2, groups=256), nn.ReLU(), nn.Conv2d(256, 256, 1), nn.ReLU(),
            nn.Conv2d(256, 256, 1), nn.ReLU())
        self.attention = nn.MultiheadAttention(256, 1, batch_first=True)
        self.layer_norm = nn.LayerNorm(256)
        self.classifier = nn.Linear(256, 7)

    def forward(self, x):
        tokens = self.patches(self.layers(self.stem(x))).flatten(2).transpose(1, 2)
        attended = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.classifier(self.layer_norm(attended + tokens).mean(1))


network = FerNet().to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
images = {}


def images_of(batch, size):
    if (batch, size) not in images:
        images[batch, size] = torch.rand(batch, 3, size, size).contiguous(
            memory_format=torch.channels_last)
    return images[batch, size]


def step(x, y):
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(network(x), y).backward()
    optimizer.step()


def train(batch, size):
    network.train()
    step(images_of(int(batch), int(size)), torch.arange(int(batch)) % 7)


def evaluate(batch, size):
    network.eval()
    x = images_of(int(batch), int(size))  # out here: training cannot use what inference_mode makes
    with torch.inference_mode():
        network(x)


def transform_of(augmented):
    from torchvision import transforms
    random = [transforms.RandomHorizontalFlip(), transforms.RandomRotation(10),
              transforms.ColorJitter(0.2, 0.2, 0.2, 0.1)]
    return transforms.Compose([transforms.Resize((224, 224)), *(random if augmented else []),
                               transforms.ToTensor()])


def label_rows(folder, count):
    return open(f'{folder}/train_labels.csv').read().split()[1:int(count) + 1]


def read_image(folder, row):
    from PIL import Image
    name, label = row.split(',')
    return Image.open(f'{folder}/DATASET/train/{label}/{name}').convert('RGB')


def transform_images(folder, count, augmented):
    images = [read_image(folder, row) for row in label_rows(folder, count)]
    transform = transform_of(augmented)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    for image in images:
        transform(image)
    elapsed = (time.perf_counter() - start) * 1e3
    torch.set_num_threads(threads)
    return elapsed


def resize(folder, count):
    return transform_images(folder, count, False)


def augment(folder, count):
    return transform_images(folder, count, True)


def epoch(folder, count):
    transform = transform_of(True)
    rows = label_rows(folder, count)

    class Faces(torch.utils.data.Dataset):
        def __len__(self):
            return len(rows)

        def __getitem__(self, i):
            return transform(read_image(folder, rows[i])), int(rows[i].split(',')[1]) - 1

    network.train()
    for x, y in torch.utils.data.DataLoader(Faces(), 32, shuffle=True, num_workers=2):
        step(x.contiguous(memory_format=torch.channels_last), y)


def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def answer(tasks, greeting):
    """Greets, then runs each task on standard input and answers with its milliseconds."""
    print(greeting, flush=True)
    for line in sys.stdin:
        name, *arguments = line.split()
        start = time.perf_counter()
        result = tasks[name](*arguments)
        elapsed = (time.perf_counter() - start) * 1e3
        print(elapsed if result is None else result, flush=True)


if __name__ == '__main__':
    answer({'train': train, 'evaluate': evaluate, 'epoch': epoch, 'memory': memory,
            'resize': resize, 'augment': augment}, f'PyTorch {torch.__version__.split("+")[0]}')
